//! Policies the configuration names in registries: fetched once, since a digest never means anything else, and kept on
//! disk, so that a start needs no registry.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};
use weir_policy::{Artifact, Digest};

use super::{OciReference, Transport};
use crate::config::OciPolicy;
use crate::policies::{Deliveries, Delivery, Offer};

/// Largest component that is fetched.
const MAX_BYTES: usize = 64 << 20;

/// How long the first round over all registries may take: nothing is decided meanwhile.
const FIRST_PASS: Duration = Duration::from_secs(5);

/// How long any later one may take.
const PASS: Duration = Duration::from_secs(600);

/// First wait after a failure; doubles with each further one, and is spread so that nodes do not come at once.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Longest wait between two attempts, before it is spread.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// Where good copies are kept, by the digest of the manifest.
#[derive(Clone, Debug)]
pub struct Copies(PathBuf);

impl Copies {
    /// Copies in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// When there cannot be such a directory.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self(directory))
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.0.join(format!("{digest}.wasm"))
    }

    /// The component behind the manifest with that digest, if there is a whole copy of it: the file says which bytes it
    /// should hold.
    fn find(&self, digest: &str) -> Option<Vec<u8>> {
        let component = fs::read(self.path(digest)).ok()?;
        let wanted = fs::read_to_string(self.path(digest).with_extension("sha256")).ok()?;
        (wanted.trim() == Digest::of(&component).to_string()).then_some(component)
    }

    fn keep(&self, digest: &str, component: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        whole(&path.with_extension("sha256"), Digest::of(component).to_string().as_bytes())?;
        whole(&path, component)
    }
}

/// Writes a file, whole or not at all.
fn whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let hidden = path.with_extension("part");
    fs::write(&hidden, bytes)?;
    fs::rename(hidden, path)
}

/// Delivers every policy of `wanted`: from its copy at once, else from its registry as soon as that answers. Tells
/// [`Delivery::Listed`] when each was delivered or failed once, so that a registry that is away holds up nobody.
pub async fn follow(wanted: Vec<OciPolicy>, copies: Option<Copies>, deliveries: Deliveries) {
    let mut missing = Vec::new();
    for policy in wanted {
        match policy.reference.parse::<OciReference>() {
            Ok(reference) => {
                let copy = copies.as_ref().zip(reference.digest()).and_then(|(copies, digest)| copies.find(digest));
                match copy {
                    Some(component) => drop(deliveries.send(Delivery::Set(offer(&policy, component)))),
                    None => missing.push((policy, reference)),
                }
            }
            // The configuration was checked; what is refused here is told like any other bad policy.
            Err(error) => drop(deliveries.send(Delivery::Bad { name: policy.name, why: error.to_string() })),
        }
    }
    let mut wait = FIRST_RETRY;
    let mut listed = false;
    loop {
        let mut still = Vec::new();
        let end = Instant::now() + if listed { PASS } else { FIRST_PASS };
        for (policy, reference) in missing {
            let transport = Transport { plain_http: policy.plain_http };
            let pulled = timeout_at(end, reference.pull(transport, MAX_BYTES)).await;
            match pulled
                .map_err(|_| "the registry takes too long".to_owned())
                .and_then(|pulled| pulled.map_err(|error| error.to_string()))
            {
                Ok(pulled) => {
                    info!(policy = policy.name, %reference, "fetched");
                    if let Some(Err(error)) =
                        copies.as_ref().map(|copies| copies.keep(&pulled.digest, &pulled.component))
                    {
                        warn!(policy = policy.name, %error, "cannot keep a copy; the next start needs the registry");
                    }
                    if deliveries.send(Delivery::Set(offer(&policy, pulled.component))).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    warn!(policy = policy.name, error, "cannot be fetched; trying again");
                    let bad = Delivery::Bad { name: policy.name.clone(), why: error };
                    if deliveries.send(bad).is_err() {
                        return;
                    }
                    still.push((policy, reference));
                }
            }
        }
        if !std::mem::replace(&mut listed, true) && deliveries.send(Delivery::Listed).is_err() {
            return;
        }
        if still.is_empty() {
            return;
        }
        missing = still;
        sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        wait = (wait * 2).min(LAST_RETRY);
    }
}

fn offer(policy: &OciPolicy, component: Vec<u8>) -> Offer {
    let OciPolicy { name, settings, fail_strategy, .. } = policy.clone();
    Artifact { name, component, settings, fail_strategy, ..Artifact::default() }.into()
}
