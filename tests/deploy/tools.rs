use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// What a trial needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Kubectl,
    Helm,
    Ldd,
    Setcap,
    Setpriv,
    SystemdAnalyze,
    Root,
}

impl Need {
    /// What is missing, if it is.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".to_owned()),
            tool => find(tool.program()).is_none().then(|| format!("there is no `{}`", tool.program())),
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Ldd => "ldd",
            Self::Setcap => "setcap",
            Self::Setpriv => "setpriv",
            Self::SystemdAnalyze => "systemd-analyze",
            Self::Root => "",
        }
    }
}

/// Whether a missing tool is a failure.
pub(crate) fn required() -> bool {
    std::env::var("REQUIRE_DEPLOY_TOOLS").is_ok_and(|value| value == "1")
}

/// The top of the repository.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository").to_owned()
}

/// Runs a tool and returns what it prints.
///
/// # Errors
/// When it is missing or fails; the text holds what it said.
pub(crate) fn run(need: Need, arguments: &[&str]) -> anyhow::Result<String> {
    let output = command(need)?.args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{} {}: {said}", need.program(), arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// A tool about to be run.
///
/// # Errors
/// When it is missing.
pub(crate) fn command(need: Need) -> anyhow::Result<Command> {
    let path = find(need.program()).with_context(|| format!("there is no `{}`", need.program()))?;
    let mut command = Command::new(path);
    // No settings of whoever runs the tests, and nothing to talk to.
    command.env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    Ok(command)
}

/// Looks in `PATH`, where an ordinary user's does not look, and where `scripts/deploy-tools.sh` puts things.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fetched = std::env::current_exe().ok()?.ancestors().nth(3)?.join("deploy-tools");
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into(), fetched]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A folder that is removed with the value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("weir-deploy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the machine's own sweep of its temporary folder.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
