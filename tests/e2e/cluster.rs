//! A cluster as its users see it: objects in, connections out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use weir::pipeline::Outcome;
use weir_source::{Manifests, Selection, Severity};
use weir_testbed::{Call, Failure, Host, Layout, Tally};
use weir_tests::lab::{DROPPED, Lab, NODE_NAME, OTHER_NODE, address_of};

use crate::objects::{Object, Pod};

/// Calls to tell who serves. That one of three backends gets none of them by chance happens once in 10¹⁰ times.
const CALLS: usize = 60;

/// A testbed whose Weir follows a directory of manifests, the way the daemon does. What a test asks of it either
/// happens or is a panic that says what happened instead.
pub(crate) struct Cluster {
    lab: Lab,
    directory: Directory,
    manifests: Manifests,
    /// The files of each Service's EndpointSlices.
    slices: BTreeMap<String, Vec<String>>,
}

impl Cluster {
    /// One without objects.
    pub(crate) fn up() -> Self {
        Self::seen_from(NODE_NAME)
    }

    /// One without objects, whose node has that name.
    pub(crate) fn seen_from(node_name: &str) -> Self {
        let directory = Directory::new();
        let manifests = Manifests::new(vec![directory.0.clone()], Selection::default());
        let mut lab = Lab::idle(node_name).unwrap();
        lab.launch().unwrap();
        let mut cluster = Self { lab, directory, manifests, slices: BTreeMap::new() };
        cluster.follow();
        cluster
    }

    /// One with a Service and its pods.
    pub(crate) fn with(service: &Object, pods: &[Pod]) -> Self {
        let mut cluster = Self::up();
        cluster.apply(service, pods);
        cluster
    }

    /// Writes a Service and what the EndpointSlice controller makes of these pods, in place of earlier versions.
    pub(crate) fn apply(&mut self, service: &Object, pods: &[Pod]) -> Outcome {
        self.write(service, pods);
        self.follow()
    }

    /// The same without anybody looking.
    pub(crate) fn write(&mut self, service: &Object, pods: &[Pod]) {
        if let Some(slices) = service.slices(pods) {
            let files: Vec<String> = slices.iter().map(Object::file).collect();
            slices.iter().for_each(|slice| self.directory.write(&slice.file(), &slice.text()));
            let old = self.slices.insert(service.file(), files.clone()).unwrap_or_default();
            old.iter().filter(|file| !files.contains(file)).for_each(|file| self.directory.remove(file));
        }
        self.directory.write(&service.file(), &service.text());
    }

    /// Writes one object, in place of an earlier version.
    pub(crate) fn put(&mut self, object: &Object) -> Outcome {
        self.directory.write(&object.file(), &object.text());
        self.follow()
    }

    /// Writes a file of `examples/`, its nodes called as the testbed calls them.
    pub(crate) fn put_example(&mut self, file: &str) -> Outcome {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(file);
        let text = fs::read_to_string(path).unwrap();
        self.directory.write(file, &text.replace("demo-node", NODE_NAME).replace("other-node", OTHER_NODE));
        self.follow()
    }

    /// Deletes one object.
    pub(crate) fn take(&mut self, object: &Object) -> Outcome {
        self.directory.remove(&object.file());
        self.follow()
    }

    /// Deletes a Service with its EndpointSlices.
    pub(crate) fn delete(&mut self, service: &Object) -> Outcome {
        self.erase(service);
        self.follow()
    }

    /// Deletes several Services with their EndpointSlices at once.
    pub(crate) fn delete_all(&mut self, services: &[Object]) -> Outcome {
        services.iter().for_each(|service| self.erase(service));
        self.follow()
    }

    /// Deletes a Service with its EndpointSlices without anybody looking.
    pub(crate) fn erase(&mut self, service: &Object) {
        let slices = self.slices.remove(&service.file()).unwrap_or_default();
        slices.iter().chain([&service.file()]).for_each(|file| self.directory.remove(file));
    }

    /// Ends Weir as a crash would.
    pub(crate) fn crash(&mut self) {
        self.lab.stop();
    }

    /// Starts a Weir that knows nothing.
    pub(crate) fn restart(&mut self) -> Outcome {
        self.lab.launch().unwrap();
        self.manifests = Manifests::new(vec![self.directory.0.clone()], Selection::default());
        self.follow()
    }

    /// Reads what changed in the directory and programs it.
    fn follow(&mut self) -> Outcome {
        let changes = self.manifests.refresh();
        let errors: Vec<_> = changes.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:?}");
        self.lab.apply_events(changes.events).unwrap()
    }

    /// `client`, `backend-1` to `backend-3`, `node` or `outside`.
    pub(crate) fn host(&self, name: &str) -> Host {
        let node = self.lab.node();
        match name {
            "node" => node.kernel().clone(),
            "outside" => node.outside().clone(),
            pod => node.pod(pod).clone(),
        }
    }

    /// All of Weir's rules, by the `nft` tool.
    pub(crate) fn rules(&self) -> String {
        self.host("node").command("nft", &["list", "ruleset"]).unwrap()
    }

    /// Every one of these calls from that host is answered, and all of `backends` answer, and nobody else. Returns what
    /// was seen.
    pub(crate) fn serves(&mut self, from: &str, call: Call, backends: &[&str]) -> Tally {
        let host = self.host(from);
        let tally = self.lab.call(&host, CALLS, call).unwrap();
        assert_eq!(tally.failed(), 0, "{from}, {call:?}: {:?}", tally.failures);
        let seen: Vec<&str> = tally.answers.keys().map(String::as_str).collect();
        assert_eq!(seen, backends, "{from}, {call:?}");
        tally
    }

    /// So many calls from that host, one after the other; all are answered.
    pub(crate) fn answers(&mut self, from: &str, count: usize, call: Call) -> Tally {
        let host = self.host(from);
        let tally = self.lab.ask(&host, count, call);
        assert_eq!(tally.failed(), 0, "{from}, {call:?}: {:?}", tally.failures);
        tally
    }

    /// The call from that host is refused.
    pub(crate) fn refuses(&mut self, from: &str, call: Call) {
        self.fails(from, call, Failure::Refused);
    }

    /// Nothing comes back to the call from that host.
    pub(crate) fn drops(&mut self, from: &str, call: Call) {
        self.fails(from, call.within(DROPPED), Failure::TimedOut);
    }

    /// The call from that host arrives somewhere, be it by a rule, and finds no listener there.
    pub(crate) fn nobody_listens(&self, from: &str, call: Call) {
        // A reset comes at once; a refusal by a rule takes TCP a second, see `Call::timeout`.
        let seen = call.within(DROPPED).make_on(&self.host(from));
        assert_eq!(seen, Err(Failure::Refused), "{from}, {call:?}");
    }

    /// Nothing is programmed for the address of that call: it leaves the node as it came, and gets lost.
    pub(crate) fn not_ours(&self, from: &str, call: Call) {
        let address = call.target.ip().to_string();
        assert!(!self.rules().contains(&address), "{address} is in {}", self.rules());
        assert_eq!(call.within(DROPPED).make_on(&self.host(from)), Err(Failure::TimedOut), "{from}, {call:?}");
    }

    fn fails(&mut self, from: &str, call: Call, failure: Failure) {
        let host = self.host(from);
        let tally = self.lab.call(&host, 1, call).unwrap();
        assert_eq!(tally.failures, [(failure, 1)].into(), "{from}, {call:?}: {tally:?}");
    }
}

/// A TCP connection to that address and port.
pub(crate) fn tcp(target: &str) -> Call {
    Call::tcp(socket(target))
}

/// A datagram to that address and port.
pub(crate) fn udp(target: &str) -> Call {
    Call::udp(socket(target))
}

/// An address and port.
pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address with port"))
}

/// The node's address of the family of `call`'s target: what a backend sees of a client whose address was not kept.
pub(crate) fn node_address(call: Call) -> IpAddr {
    address_of(Layout::NODE, call.target.ip())
}

/// The client addresses that backends saw.
pub(crate) fn clients(tally: &Tally) -> BTreeSet<IpAddr> {
    tally.clients.values().flatten().copied().collect()
}

/// A directory that vanishes with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// An empty one.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-e2e-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file the way editors and kubelets do: whole, then moved into place.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let hidden = self.0.join(format!(".{name}"));
        fs::write(&hidden, text).unwrap();
        fs::rename(hidden, self.0.join(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
