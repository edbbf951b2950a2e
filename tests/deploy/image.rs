use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use toml::Table;
use weir_model::Family;
use weir_netlink::{Kernel, OpenError};
use weir_nft::{Dataplane, Op, Transaction};

use crate::manifests;
use crate::tools::{self, Need, Scratch};

/// Libraries that `gcr.io/distroless/cc` brings (glibc and GCC's runtime), by the names programs ask for.
const DISTROLESS_CC: [&str; 9] = [
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "linux-vdso.so.1",
];

/// The user of the image and of the pods.
const USER: &str = "65532:65532";

/// Set for the copy of this program that only tries whether it may write to nf_tables, in a namespace of its own.
const PROBE: &str = "WEIR_DEPLOY_PROBE";

/// How that copy ends when it may not.
const REFUSED: u8 = 3;

/// With [`PROBE`] set: how this process ends. Otherwise it is a test.
pub(crate) fn probe() -> Option<ExitCode> {
    std::env::var_os(PROBE)?;
    let ops = Family::ALL.map(Op::AddTable).to_vec();
    let error = match Kernel::open().map(|mut kernel| kernel.commit(&Transaction { ops })) {
        Ok(Ok(_)) => return Some(ExitCode::SUCCESS),
        Err(OpenError::Permission) => return Some(ExitCode::from(REFUSED)),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    eprintln!("{error}");
    Some(ExitCode::FAILURE)
}

/// This test links the same crates as the program, so it asks for the same libraries.
pub(crate) fn libraries() -> anyhow::Result<()> {
    let this = std::env::current_exe()?;
    let listed = tools::run(Need::Ldd, &[this.to_str().context("a path in UTF-8")?])?;
    let asked: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.rsplit('/').next())
        .filter(|name| !DISTROLESS_CC.contains(name))
        .collect();
    let dockerfile = dockerfile()?;
    let copied: BTreeSet<&str> = dockerfile
        .split(|c: char| c.is_whitespace() || "/\"".contains(c))
        .filter(|word| word.starts_with("lib") && word.contains(".so."))
        .collect();
    anyhow::ensure!(asked == copied, "the program asks for {asked:?}, the image gets {copied:?}");
    anyhow::ensure!(asked.contains("libnftnl.so.11"), "libnftnl must stay a shared library: {asked:?}");
    Ok(())
}

pub(crate) fn minimal() -> anyhow::Result<()> {
    let dockerfile = dockerfile()?;
    let (build, last) = dockerfile.rsplit_once("\nFROM ").context("stages")?;
    let base = last.lines().next().unwrap_or_default();
    // `:debug` has a shell.
    anyhow::ensure!(base == "gcr.io/distroless/cc-debian13:nonroot", "{base}");
    for instruction in ["RUN", "SHELL", "ADD"] {
        let found = last.lines().any(|line| line.starts_with(instruction));
        anyhow::ensure!(!found, "{instruction} in the last stage, where there is nothing to run it with");
    }
    anyhow::ensure!(last.contains(&format!("\nUSER {USER}\n")), "the user that pods have");
    anyhow::ensure!(last.contains("\nENTRYPOINT [\"/usr/bin/weir\"]\n"), "an entry point that needs no shell");
    let copies = last.lines().filter(|line| line.starts_with("COPY")).count();
    anyhow::ensure!(copies == 1 && last.contains("COPY --from=build /image /\n"), "only what was gathered in /image");
    let gathered: Vec<_> = build.lines().filter(|line| line.contains("/image")).collect();
    anyhow::ensure!(!gathered.iter().any(|line| line.contains("nftables") || line.contains("bin/nft")), "{gathered:?}");
    anyhow::ensure!(build.contains("setcap cap_net_admin=ep /image/usr/bin/weir"), "NET_ADMIN for a user");
    Ok(())
}

/// Cargo needs every member of the workspace, the build script the guests and the contract, and the compiler the files
/// that sources include.
pub(crate) fn context() -> anyhow::Result<()> {
    let ignored = std::fs::read_to_string(tools::top().join(".dockerignore"))?;
    let sent: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    anyhow::ensure!(ignored.lines().any(|line| line == "*"), "what is not named is not sent");
    let workspace = workspace()?;
    let members = workspace["workspace"]["members"].as_array().context("members")?;
    let members = members.iter().filter_map(|member| member.as_str()?.split('/').next());
    for needed in members.chain(["Cargo.toml", "Cargo.lock", "LICENSE", "guest-policies", "wit"]) {
        anyhow::ensure!(sent.contains(needed), ".dockerignore keeps {needed} back");
        anyhow::ensure!(tools::top().join(needed).exists(), "there is no {needed}");
    }
    let mut included = 0;
    for source in manifests::files(&tools::top().join("host"), ".rs")? {
        let text = std::fs::read_to_string(&source)?;
        for file in ["include_str!(", "include_bytes!("].iter().flat_map(|name| text.split(name).skip(1)) {
            // Others are what a build script has made.
            let Some(file) = file.split('"').nth(1).filter(|_| !file.starts_with("concat!(env!")) else { continue };
            let path = std::path::absolute(source.parent().context("a folder")?)?;
            let path = file.split('/').fold(path, |path, part| match part {
                ".." => path.parent().map_or_else(Default::default, Path::to_path_buf),
                part => path.join(part),
            });
            let path = path.strip_prefix(tools::top())?.to_string_lossy();
            let is_sent = sent.iter().any(|sent| path.starts_with(sent)) && !path.ends_with(".md");
            anyhow::ensure!(is_sent, ".dockerignore keeps {path} back, which {} includes", source.display());
            included += 1;
        }
    }
    anyhow::ensure!(included >= 8, "only {included} included files were found");
    Ok(())
}

/// One version everywhere: program, image, chart; one compiler.
pub(crate) fn versions() -> anyhow::Result<()> {
    let workspace = workspace()?;
    let version = workspace["workspace"]["package"]["version"].as_str().context("a version")?;
    let mut images = 0;
    for path in manifests::files(&manifests::kustomize_folder(), ".yaml")? {
        let text = std::fs::read_to_string(&path)?;
        for image in text.lines().filter_map(|line| line.trim().strip_prefix("image: localhost/weir")) {
            images += 1;
            anyhow::ensure!(image == format!(":{version}"), "{}: weir{image}", path.display());
        }
    }
    anyhow::ensure!(images == 3, "{images} containers run Weir's image; init, main and cleanup do");
    let chart = std::fs::read_to_string(tools::top().join("deploy/helm/weir/Chart.yaml"))?;
    anyhow::ensure!(chart.contains(&format!("\nappVersion: {version}\n")), "Chart.yaml: appVersion is not {version}");
    let toolchain: Table = std::fs::read_to_string(tools::top().join("rust-toolchain.toml"))?.parse()?;
    let channel = toolchain["toolchain"]["channel"].as_str().context("a channel")?;
    let dockerfile = dockerfile()?;
    for place in [format!("FROM rust:{channel}-slim-"), format!("ENV RUSTUP_TOOLCHAIN={channel}\n")] {
        anyhow::ensure!(dockerfile.contains(&place), "Dockerfile: no {place:?}");
    }
    Ok(())
}

/// What the manifests rely on: a runtime that starts the program as a user who is not root, with NET_ADMIN permitted
/// and privilege escalation forbidden, gives it the capability through the file, and only so.
pub(crate) fn capability() -> anyhow::Result<()> {
    let scratch = Scratch::new("capability")?;
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755))?;
    let copy = |name: &str| -> anyhow::Result<String> {
        let path = scratch.path().join(name);
        std::fs::copy(std::env::current_exe()?, &path)?;
        path.into_os_string().into_string().ok().context("a path in UTF-8")
    };
    let (plain, capable) = (copy("plain")?, copy("capable")?);
    tools::run(Need::Setcap, &["cap_net_admin=ep", &capable])?;
    // `setpriv` keeps what the bounding set allows permitted until it starts the program, as container runtimes do.
    let start = |program: &str, bounding: &str| -> anyhow::Result<std::process::Output> {
        let setpriv = tools::command(Need::Setpriv)?;
        let mut command = Command::new("unshare");
        command.arg("--net").arg(setpriv.get_program());
        command.args([
            "--reuid=65532",
            "--regid=65532",
            "--clear-groups",
            "--no-new-privs",
            "--bounding-set",
            bounding,
        ]);
        Ok(command.arg(program).env(PROBE, "1").output()?)
    };
    let capable_with = start(&capable, "-all,+net_admin")?;
    anyhow::ensure!(capable_with.status.success(), "with the file capability: {capable_with:?}");
    let plain_with = start(&plain, "-all,+net_admin")?;
    anyhow::ensure!(plain_with.status.code() == Some(i32::from(REFUSED)), "without it: {plain_with:?}");
    // execve(2): EPERM where the file wants more than the bounding set has.
    let capable_without = start(&capable, "-all")?;
    let said = String::from_utf8_lossy(&capable_without.stderr).into_owned();
    anyhow::ensure!(said.contains("Operation not permitted"), "without NET_ADMIN: {capable_without:?}");
    Ok(())
}

fn dockerfile() -> anyhow::Result<String> {
    let text = std::fs::read_to_string(tools::top().join("deploy/Dockerfile")).context("deploy/Dockerfile")?;
    Ok(text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect())
}

fn workspace() -> anyhow::Result<Table> {
    Ok(std::fs::read_to_string(tools::top().join("Cargo.toml"))?.parse()?)
}
