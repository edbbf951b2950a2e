//! Policies from a directory: what a mounted ConfigMap or image volume looks like.
//!
//! Each directory in it is a policy, with the keys of a ConfigMap as its files (`policy.wasm`, `settings`,
//! `fail-strategy`, `limits`, …); each file `NAME.wasm` (or `.wasm.gz`, `.wasm.zst`) right in it is one without settings. Names
//! that begin with a dot are left out, which covers the `..data` machinery of mounted ConfigMaps. An entry of the name
//! [`SWITCH`] switches all policies off while it is there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use tracing::warn;

use super::{Deliveries, Delivery, SWITCH, offer};

/// How often the directory is looked at. A look costs one `stat` a file.
const LOOK: Duration = Duration::from_secs(1);

/// Largest file that is read: a component has a limit of its own, but only once it is in memory.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What tells a version of a policy from another without reading it: its files with their sizes and times.
type Stamps = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// Delivers every policy there is in `path` now, as [`Delivery::Set`] or [`Delivery::Bad`].
///
/// # Errors
/// When the directory itself cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<Delivery>> {
    Ok(policies(path)?.iter().map(|(name, files)| deliver(name, files)).collect())
}

/// Follows `path` on a thread of its own, until nobody takes the deliveries any more. While the directory cannot be
/// read, what it held stays.
///
/// # Errors
/// When no thread can be started.
pub fn watch(path: PathBuf, deliveries: Deliveries) -> io::Result<()> {
    thread::Builder::new().name("policy-files".to_owned()).spawn(move || {
        let mut known: BTreeMap<String, Stamps> = BTreeMap::new();
        let (mut listed, mut unreadable) = (false, false);
        loop {
            match policies(&path) {
                Ok(found) => {
                    unreadable = false;
                    let changed = found.iter().filter(|(name, files)| known.get(*name) != Some(files));
                    let set = changed.map(|(name, files)| deliver(name, files));
                    let gone = known.keys().filter(|name| !found.contains_key(*name)).map(|name| withdraw(name));
                    let list = (!listed).then_some(Delivery::Listed);
                    for delivery in set.chain(gone).chain(list).collect::<Vec<_>>() {
                        if deliveries.send(delivery).is_err() {
                            return;
                        }
                    }
                    (known, listed) = (found, true);
                }
                Err(error) if !unreadable => {
                    warn!(directory = %path.display(), %error, "cannot read policies; those from there stay as they are");
                    unreadable = true;
                }
                Err(_) => {}
            }
            thread::sleep(LOOK);
        }
    })?;
    Ok(())
}

/// The policies of a directory with their files.
fn policies(path: &Path) -> io::Result<BTreeMap<String, Stamps>> {
    let mut found = BTreeMap::new();
    for entry in visible(path)? {
        let metadata = fs::metadata(&entry)?;
        if name_of(&entry) == SWITCH {
            found.insert(SWITCH.to_owned(), Stamps::new());
        } else if metadata.is_dir() {
            let files: Stamps = visible(&entry)?
                .into_iter()
                .filter_map(|file| {
                    fs::metadata(&file).ok().filter(|file| file.is_file()).map(|data| (file, stamp(&data)))
                })
                .collect();
            found.insert(name_of(&entry), files);
        } else if let Some((name, _)) = name_of(&entry).split_once(".wasm") {
            found.insert(name.to_owned(), Stamps::from([(entry.clone(), stamp(&metadata))]));
        }
    }
    Ok(found)
}

fn stamp(metadata: &fs::Metadata) -> (u64, Option<SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}

fn visible(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter(|path| !name_of(path).starts_with('.')).collect())
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn withdraw(name: &str) -> Delivery {
    if name == SWITCH { Delivery::Switch(false) } else { Delivery::Gone(name.to_owned()) }
}

fn deliver(name: &str, files: &Stamps) -> Delivery {
    if name == SWITCH {
        return Delivery::Switch(true);
    }
    let bad = |why: String| Delivery::Bad { name: name.to_owned(), why };
    let (mut binary, mut data) = (BTreeMap::new(), BTreeMap::new());
    for (path, (size, _)) in files {
        if *size > MAX_FILE_BYTES {
            return bad(format!(
                "{}: {size} bytes are more than the {MAX_FILE_BYTES} a policy may have",
                path.display()
            ));
        }
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return bad(format!("{}: {error}", path.display())),
        };
        let key = name_of(path);
        if key.contains(".wasm") {
            binary.insert(key, bytes);
        } else {
            data.insert(key, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    match offer(name, binary, &data) {
        Ok(offer) => Delivery::Set(offer),
        Err(why) => bad(why),
    }
}
