//! Files in, events and problems out.

mod reading;
mod storm;
mod surroundings;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use weir_model::{Event, ObjectKey};

/// A directory that is gone when the test is over.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-source-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory for the test");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in place, which readers may catch half-way.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file is written");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The test may have removed it already.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl AsRef<Path> for Directory {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// A Service as people write it.
fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: 10.0.0.1\n  ports:\n  - port: {port}\n"
    )
}

/// A slice with one endpoint.
fn slice(name: &str, service: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  labels:\n    \
         kubernetes.io/service-name: {service}\naddressType: IPv4\nports:\n- port: 8080\nendpoints:\n- addresses: [{address}]\n"
    )
}

/// What an event says, short enough to compare.
fn brief(event: &Event) -> String {
    let list = |items: Vec<String>| items.join(" ");
    match event {
        Event::Service(spec) => format!("service {}:{}", spec.key.name, spec.ports[0].port),
        Event::ServiceGone(ObjectKey { name, .. }) => format!("service gone {name}"),
        Event::Slice(spec) => {
            let addresses = spec.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
            format!("slice {} {}", spec.key.name, list(addresses))
        }
        Event::SliceGone(ObjectKey { name, .. }) => format!("slice gone {name}"),
        Event::Node(node) => format!("node {:?}", node.as_ref().map(|node| &node.zone)),
        Event::ServiceCidrs(cidrs) => format!("ranges {cidrs:?}"),
        Event::Listed => "listed".to_owned(),
        Event::Replace { services, slices } => {
            let services = services.iter().map(|spec| format!("{}:{}", spec.key.name, spec.ports[0].port)).collect();
            format!("all [{}] [{}]", list(services), list(slices.iter().map(|spec| spec.key.name.clone()).collect()))
        }
    }
}
