//! Records of calls to policies that failed: files in a directory, for `weir policy run --replay`.
//!
//! Writing is a thread's work: the loop hands a record over and never waits. What comes faster than it can be written,
//! or is there already, is left out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::SystemTime;

use tracing::{info, warn};
use weir_policy::{Digest, Record, Recorder};

/// Records that may wait to be written.
const BACKLOG: usize = 64;

/// Most bytes of all records together; the oldest go first.
const MOST_BYTES: u64 = 64 << 20;

/// Where records go.
#[derive(Debug)]
pub struct Records(SyncSender<Record>);

impl Records {
    /// Writes records to `directory`, which is made if it is not there, and keeps `most` files of them.
    ///
    /// # Errors
    /// When there cannot be such a directory, or no thread can be started.
    pub fn open(directory: PathBuf, most: usize) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let (sender, records) = sync_channel(BACKLOG);
        thread::Builder::new()
            .name("policy-records".to_owned())
            .spawn(move || write_all(&directory, most, &records))?;
        Ok(Self(sender))
    }
}

impl Recorder for Records {
    fn record(&self, record: Record) {
        // A full channel means that there are records of this storm already.
        let _ = self.0.try_send(record);
    }
}

fn write_all(directory: &Path, most: usize, records: &Receiver<Record>) {
    let mut failing = false;
    while let Ok(record) = records.recv() {
        let done = write(directory, &record).and_then(|new| if new { prune(directory, most) } else { Ok(()) });
        match done {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                warn!(directory = %directory.display(), %error, "cannot keep a record of a failed policy");
                failing = true;
            }
            Err(_) => {}
        }
    }
}

/// Writes a record, whole or not at all. Returns whether it was not there yet: the same call has the same name.
fn write(directory: &Path, record: &Record) -> io::Result<bool> {
    let text = serde_json::to_string(record)?;
    let digest = Digest::of(text.as_bytes()).to_string();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let of: String = format!("{}-{}", record.policy, record.place()).chars().take(120).map(plain).collect();
    let path = directory.join(format!("{of}-{}.json", &digest[..12]));
    if path.exists() {
        return Ok(false);
    }
    let hidden = directory.join(".record");
    fs::write(&hidden, text)?;
    fs::rename(hidden, &path)?;
    info!(file = %path.display(), policy = record.policy, "recorded a call that failed");
    Ok(true)
}

/// Removes the oldest records beyond `most`, and beyond [`MOST_BYTES`].
fn prune(directory: &Path, most: usize) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let metadata = fs::metadata(&path)?;
            files.push((metadata.modified()?, metadata.len(), path));
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    let mut bytes = 0;
    for (at, (_, size, path)) in files.iter().enumerate() {
        bytes += size;
        if at >= most || bytes > MOST_BYTES {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
