use weir_testbed::Host;
use weir_tests::lab::{Lab, Service, web};

fn list(lab: &Lab) -> String {
    list_of(lab.node().kernel())
}

fn list_of(host: &Host) -> String {
    host.command("nft", &["list", "ruleset"]).unwrap()
}

/// The sorted names of everything of that kind, `chain`, `set` or `map`, table by table.
fn names(ruleset: &str, kind: &str) -> Vec<String> {
    let mut table = "";
    let mut names = Vec::new();
    for line in ruleset.lines() {
        if line.starts_with("table ") {
            table = line;
        } else if let Some(name) =
            line.strip_prefix('\t').and_then(|line| line.strip_prefix(kind)).filter(|name| name.starts_with(' '))
        {
            names.push(format!("{table}{name}"));
        }
    }
    names.sort();
    names
}

/// Every line of every chain, its name first.
fn rules(ruleset: &str) -> Vec<&str> {
    let mut in_chain = false;
    let inside = ruleset.lines().filter(|line| {
        in_chain = line.starts_with("\tchain ") || (in_chain && *line != "\t}");
        in_chain
    });
    inside.collect()
}

/// A hundred Services more, of shapes that are there already, are elements and nothing else.
pub(crate) fn no_chain_for_a_service() {
    let service = |number: u8| {
        let (v4, v6) = (format!("10.96.1.{number}"), format!("fd00:10:96::1:{number:x}"));
        Service::new(&format!("svc-{number}"), [&v4, &v6]).tcp(80).udp(53).node_port(30_000 + u16::from(number))
    };
    let few: Vec<_> = (1..=1).map(service).collect();
    let many: Vec<_> = (1..=101).map(service).collect();
    let mut lab = Lab::up(&few).unwrap();
    let before = list(&lab);
    lab.apply(&many).unwrap();
    let after = list(&lab);
    for kind in ["chain", "set", "map"] {
        assert!(!names(&before, kind).is_empty(), "no {kind} in\n{before}");
        assert_eq!(names(&before, kind), names(&after, kind));
    }
    assert_eq!(rules(&before), rules(&after));
    assert!(after.matches("10.96.1.101").count() >= 3, "the elements are there:\n{after}");
}

/// What the tool prints it also reads: the ruleset has no construct that only netlink can write.
pub(crate) fn rules_are_readable() {
    let lab = Lab::up(&[
        web().node_port(30_080).external(["198.51.100.7"]).load_balancer(["192.0.2.5"]).external_local(),
        Service::new("turns", ["10.96.0.11"]).tcp(80).policy("round-robin"),
        Service::new("sticky", ["10.96.0.12"]).tcp(80).affinity(600),
    ])
    .unwrap();
    let ruleset = list(&lab);
    for expected in ["chain random-3", "@frontends", "10.96.0.10 . tcp . 80", "masquerade"] {
        assert!(ruleset.contains(expected), "{expected:?} is not in\n{ruleset}");
    }
    lab.node().outside().command_with_input("nft", &["-f", "-"], &unowned(&ruleset)).unwrap();
    assert_eq!(unowned(&list_of(lab.node().outside())), unowned(&ruleset));
}

/// A listing without what it says of the owner: a table can only be owned by a process that stays.
fn unowned(ruleset: &str) -> String {
    let lines = ruleset.lines().map(|line| line.split(" # progname").next().unwrap_or_default());
    lines
        .filter(|line| !line.trim().is_empty() && !line.contains("flags owner"))
        .map(|line| format!("{line}\n"))
        .collect()
}
