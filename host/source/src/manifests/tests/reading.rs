//! What one reading makes of files.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::time::Instant;

use super::*;
use crate::{Loaded, Manifests, Selection, Severity};

/// The complete list, where there is nothing else.
fn only_list(loaded: Loaded) -> weir_model::Event {
    let [event] = <[_; 1]>::try_from(loaded.into_events()).expect("Services and slices only");
    event
}

fn load(directory: &Directory) -> Loaded {
    Manifests::load(std::slice::from_ref(&directory.0), &Selection::default())
}

/// The problems, with the directory left out.
fn problems(directory: &Directory, loaded: &Loaded) -> Vec<String> {
    let prefix = format!("{}/", directory.0.display());
    loaded.problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.services.iter().map(|spec| spec.key.name.as_str()).collect()
}

#[test]
fn many_documents_and_kinds() {
    let directory = Directory::new();
    let text = format!(
        "# a comment\n---\n{}---\n# nothing here\n---\n{}--- # with a comment\n{}---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  \
         name: settings\n  labels: {{ weir.proxy/policy: \"true\" }}\ndata: {{ a: b }}\nbinaryData: {{ c: AAE= }}\n...\n",
        service("web", 80),
        slice("web-1", "web", "10.1.0.1"),
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\n",
    );
    directory.write("all.yaml", &text);
    let loaded = load(&directory);
    assert_eq!(
        problems(&directory, &loaded),
        ["all.yaml, document 3 (Deployment default/web): skipped: not a kind that is programmed"]
    );
    assert_eq!(loaded.problems[0].severity, Severity::Note);
    assert_eq!((names(&loaded), loaded.slices.len()), (vec!["web"], 1));
    let [settings] = &loaded.config_maps[..] else { panic!("{:?}", loaded.config_maps) };
    assert_eq!((&settings.data["a"][..], &settings.binary_data["c"][..]), ("b", &[0, 1][..]));
    assert_eq!(settings.labels["weir.proxy/policy"], "true");
    assert_eq!(brief(&only_list(loaded)), "all [web:80] [web-1]");
}

#[test]
fn lists_and_json() {
    let directory = Directory::new();
    directory.write("list.yaml", &format!("apiVersion: v1\nkind: List\nitems:\n{}", indent(&service("a", 1))));
    directory.write(
        "typed.json",
        r#"{"apiVersion": "v1", "kind": "ServiceList", "items": [{"metadata": {"name": "b"}, "spec": {"clusterIP": "10.0.0.2", "ports": [{"port": 2}]}}]}
           {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "items": [{"metadata": {"name": "b-1", "labels": {"kubernetes.io/service-name": "b"}}, "addressType": "IPv4", "endpoints": []}]}
           {"apiVersion": "v1", "kind": "ConfigMapList", "items": null}"#,
    );
    directory.write("flow.yml", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {"clusterIP": "10.0.0.3", "ports": [{"port": 3}]}}"#);
    let loaded = load(&directory);
    assert_eq!(problems(&directory, &loaded), [""; 0]);
    assert_eq!(brief(&only_list(loaded)), "all [a:1 b:2 c:3] [b-1]");
}

/// One object of a list.
fn indent(object: &str) -> String {
    object.lines().enumerate().fold(String::new(), |mut text, (number, line)| {
        let lead = if number == 0 { "- " } else { "  " };
        writeln!(text, "{lead}{line}").expect("a string takes everything");
        text
    })
}

#[test]
fn a_bad_document_is_named_and_costs_only_itself() {
    let directory = Directory::new();
    let wrong_type = service("typed", 80).replace("port: 80", "port: eighty");
    let wrong_value = service("valued", 0);
    let no_yaml = "apiVersion: v1\nkind: Service\n  metadata: {\n";
    let twice = format!("{}spec: {{}}\n", service("twice", 80));
    let text = [
        wrong_type.as_str(),
        &wrong_value,
        no_yaml,
        "just words\n",
        "kind: Service\n",
        "apiVersion: v1\n",
        &twice,
        &service("good", 80),
    ];
    directory.write("x.yaml", &text.join("---\n"));
    directory.write(
        "y.yaml",
        &format!("apiVersion: v1\nkind: List\nitems:\n{}{}", indent(&wrong_type), indent(&service("item", 1))),
    );
    directory.write("z.json", r#"{"kind": "Service", "apiVersion": "v1", "#);
    let loaded = load(&directory);
    assert_eq!(names(&loaded), ["good", "item"]);
    assert!(loaded.problems.iter().all(|problem| problem.severity == Severity::Error));
    let seen = problems(&directory, &loaded);
    assert_eq!(
        seen[0],
        "x.yaml, document 1 (Service default/typed): spec.ports[0].port: invalid type: string \"eighty\", expected i32"
    );
    assert_eq!(seen[1], "x.yaml, document 2 (Service default/valued): spec.ports[0].port: 0 is not in 1 to 65535");
    let (document, line) = ("x.yaml, document 3: ", "at line 21, column 11");
    assert!(seen[2].starts_with(document) && seen[2].ends_with(line), "{}", seen[2]);
    assert_eq!(seen[3], "x.yaml, document 4: not a Kubernetes object: a mapping is needed");
    assert_eq!(seen[4], "x.yaml, document 5 (Service): apiVersion: required");
    assert_eq!(seen[5], "x.yaml, document 6 (object): kind: required");
    assert!(seen[6].contains("duplicate mapping key: spec"), "{}", seen[6]);
    assert_eq!(
        seen[7],
        "y.yaml, document 1 (Service default/typed): items[0].spec.ports[0].port: invalid type: string \"eighty\", expected i32"
    );
    assert!(seen[8].starts_with("z.json, document 1: EOF while parsing"), "{}", seen[8]);
    assert!(seen.iter().all(|problem| !problem.contains('\n')), "one line each: {seen:?}");
    assert_eq!(seen.len(), 9);
}

#[test]
fn old_kinds_are_told_what_to_use() {
    let directory = Directory::new();
    let old = slice("old", "web", "10.1.0.1").replace("k8s.io/v1", "k8s.io/v1beta1");
    directory.write("x.yaml", &format!("{old}---\napiVersion: v1\nkind: Endpoints\nmetadata: {{ name: web }}\n"));
    assert_eq!(
        problems(&directory, &load(&directory)),
        [
            "x.yaml, document 1 (EndpointSlice default/old): apiVersion: discovery.k8s.io/v1beta1 is not supported; use discovery.k8s.io/v1",
            "x.yaml, document 2 (Endpoints default/web): Endpoints are not used; write an EndpointSlice",
        ]
    );
}

/// The examples are the first manifests anybody sees: nothing about them may need a remark.
#[test]
fn the_examples_load() {
    let loaded = Manifests::load(
        &[PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"))],
        &Selection::default(),
    );
    assert_eq!(loaded.problems, []);
    assert!(names(&loaded).contains(&"my-nginx"), "{:?}", names(&loaded));
    for slice in &loaded.slices {
        assert!(loaded.services.iter().any(|service| service.key == slice.service), "{} belongs to nobody", slice.key);
    }
}

#[test]
fn the_first_of_two_with_the_same_name_wins() {
    let directory = Directory::new();
    directory.write("b.yaml", &service("web", 2));
    directory.write("a.yaml", &format!("{}---\n{}", service("web", 1), service("web", 3)));
    let loaded = load(&directory);
    assert_eq!(
        problems(&directory, &loaded),
        [
            "a.yaml, document 2 (Service default/web): ignored: a.yaml, document 1 defines it already",
            "b.yaml, document 1 (Service default/web): ignored: a.yaml, document 1 defines it already",
        ]
    );
    assert_eq!(brief(&only_list(loaded)), "all [web:1] []");
}

#[test]
fn which_files_are_read() {
    let directory = Directory::new();
    fs::create_dir(directory.path("below")).expect("made");
    fs::create_dir(directory.path("..hidden")).expect("made");
    directory.write("below/a.yml", &service("a", 1));
    directory.write("..hidden/b.yaml", &service("b", 1));
    directory.write(".c.yaml", &service("c", 1));
    directory.write("d.yaml.bak", &service("d", 1));
    directory.write("README.md", "no manifest");
    symlink(&directory, directory.path("below/loop")).expect("linked");
    symlink("nowhere", directory.path("dangling.yaml")).expect("linked");
    let loaded = load(&directory);
    assert_eq!((names(&loaded), problems(&directory, &loaded)), (vec!["a"], Vec::new()));

    // A file that is named is read whatever it is called.
    let named = Manifests::load(&[directory.path("d.yaml.bak"), directory.path("below/a.yml")], &Selection::default());
    assert_eq!(names(&named), ["a", "d"]);
}

#[test]
fn paths_that_cannot_be_read_are_problems() {
    let directory = Directory::new();
    directory.write("latin1.yaml", "");
    fs::write(directory.path("latin1.yaml"), b"name: caf\xe9\n").expect("written");
    let loaded = Manifests::load(
        &[directory.0.clone(), directory.path("none.yaml"), PathBuf::from("/dev/null")],
        &Selection::default(),
    );
    let seen = problems(&directory, &loaded);
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(seen[0], "/dev/null: not a regular file");
    assert!(seen[1].starts_with("latin1.yaml: ") && seen[1].contains("UTF-8"), "{}", seen[1]);
    assert!(seen[2].starts_with("none.yaml: No such file"), "{}", seen[2]);
}

/// A small text that grows without bound when its aliases are followed.
#[test]
fn an_alias_bomb_is_an_error() {
    let directory = Directory::new();
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").expect("a string takes everything");
    }
    directory.write("bomb.yaml", &text);
    let start = Instant::now();
    let loaded = load(&directory);
    let seen = problems(&directory, &loaded);
    assert!(seen.len() == 1 && seen[0].contains("limit"), "{seen:?}");
    assert!(start.elapsed().as_secs() < 10, "the limits hold: {:?}", start.elapsed());
}

/// 10 000 Services of 10 endpoints load, as documents and as one list; the default limits of the YAML reader
/// would refuse the list.
#[test]
fn a_big_cluster_loads() {
    const SERVICES: usize = 10_000;
    let mut documents = String::new();
    let mut items = Vec::with_capacity(2 * SERVICES);
    for number in 0..SERVICES {
        let (high, low) = (number / 250, number % 250 + 1);
        let ip = format!("10.96.{high}.{low}");
        let endpoints: Vec<String> = (1..=10).map(|endpoint| format!("10.{endpoint}.{high}.{low}")).collect();
        write!(
            documents,
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s{number}\nspec:\n  clusterIP: {ip}\n  ports:\n  - name: http\n    port: 80\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: s{number}-1\n  labels:\n    \
             kubernetes.io/service-name: s{number}\naddressType: IPv4\nports:\n- name: http\n  port: 8080\nendpoints:\n"
        )
        .expect("a string takes everything");
        for address in &endpoints {
            writeln!(documents, "- addresses:\n  - {address}\n  conditions:\n    ready: true\n  nodeName: node-{low}")
                .expect("a string takes everything");
        }
        items.push(
            serde_json::json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": format!("s{number}") },
            "spec": { "clusterIP": ip, "ports": [{ "name": "http", "port": 80 }] } }),
        );
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|address| serde_json::json!({ "addresses": [address], "conditions": { "ready": true }, "nodeName": format!("node-{low}") }))
            .collect();
        items.push(serde_json::json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("s{number}-1"), "labels": { "kubernetes.io/service-name": format!("s{number}") } },
            "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080 }], "endpoints": endpoints }));
    }
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    let mut results = Vec::new();
    for (file, text) in [("documents.yaml", &documents), ("list.json", &list), ("list.yaml", &list)] {
        let directory = Directory::new();
        directory.write(file, text);
        let start = Instant::now();
        let loaded = load(&directory);
        println!("{file}: {} MB in {:?}", text.len() / 1_000_000, start.elapsed());
        assert_eq!(problems(&directory, &loaded), [""; 0]);
        assert_eq!((loaded.services.len(), loaded.slices.len()), (SERVICES, SERVICES));
        results.push(only_list(loaded));
    }
    assert!(results[0] == results[1] && results[1] == results[2], "the same objects however they are written");
}
