//! The daemon in a cluster: `weir run --kubeconfig` on a node made of namespaces, an API server outside of it, and real
//! connections, counted.
//!
//! Needs no root where user namespaces are allowed. Otherwise all of it is skipped, loudly; `REQUIRE_NETNS=1` makes
//! that a failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

/// Policies nobody should have uploaded, and ways to choose between those that are good.
mod artefacts;
/// The program itself.
mod daemon;
/// What goes wrong elsewhere: slices, ports, policies, the daemon itself, the node.
mod faults;
/// `kubectl` against the API server of the tests.
mod kubectl;
/// What stands in deploy/, as the documents tell to apply it.
mod overlays;
/// Policies in ConfigMaps.
mod policy;
/// What the daemon asks of the API server.
mod rights;
/// A node, an API server and a daemon that joins them.
mod town;
/// What goes wrong between the daemon and the API server.
mod trouble;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use weir_testbed::enter_for_tests;
use weir_tests::trials::trial;

fn main() -> ExitCode {
    // The daemon is this program again: `weir` is nothing but its library.
    if daemon::is_wanted() {
        return weir::cli::main();
    }
    let arguments = Arguments::from_args();
    if !enter_for_tests("cluster") {
        return ExitCode::SUCCESS;
    }
    let mut trials = vec![
        trial("work_after_restarting_apiserver", trouble::work_after_restarting_apiserver),
        trial("a_gap_with_a_forgotten_past", trouble::a_gap_with_a_forgotten_past),
        trial("the_daemon_asks_for_what_it_has_rights_to", rights::the_daemon_asks_for_what_it_has_rights_to),
        trial("late_slices_take_nothing_away", trouble::late_slices_take_nothing_away),
        trial("work_after_restarting_kube_proxy", trouble::work_after_restarting_kube_proxy),
        trial("what_went_while_nobody_looked_is_gone", trouble::what_went_while_nobody_looked_is_gone),
        trial("connections_that_die_silently_are_replaced", trouble::connections_that_die_silently_are_replaced),
        trial("a_storm_of_changes_breaks_nothing", trouble::a_storm_of_changes_breaks_nothing),
        trial("slices_that_are_moved_break_nothing", faults::slices_that_are_moved_break_nothing),
        trial("a_busy_health_check_port_breaks_nothing", faults::a_busy_health_check_port_breaks_nothing),
        trial("a_daemon_that_stands_still_breaks_nothing", faults::a_daemon_that_stands_still_breaks_nothing),
        trial("bad_policies_break_nothing", faults::bad_policies_break_nothing),
        trial("twenty_bad_artefacts_break_nothing", artefacts::twenty_bad_artefacts_break_nothing),
        trial("bad_answers_break_nothing", artefacts::bad_answers_break_nothing),
        trial("policies_are_switched_off_under_traffic", artefacts::policies_are_switched_off_under_traffic),
        trial("versions_are_chosen_under_traffic", artefacts::versions_are_chosen_under_traffic),
        trial("a_new_token_breaks_nothing", faults::a_new_token_breaks_nothing),
        trial("every_way_to_the_apiserver_is_taken", faults::every_way_to_the_apiserver_is_taken),
        trial("a_storm_of_files_breaks_nothing", faults::a_storm_of_files_breaks_nothing),
        trial("a_node_that_changes_breaks_nothing", faults::a_node_that_changes_breaks_nothing),
        trial("an_overloaded_apiserver_breaks_nothing", trouble::an_overloaded_apiserver_breaks_nothing),
    ];
    let missing = kubectl::missing();
    if let Some(why) = &missing {
        eprintln!("\n*** what kubectl does is followed: SKIPPED: {why}\n");
    }
    for (name, test) in [
        ("kubectl_is_followed", kubectl::kubectl_is_followed as fn()),
        ("overlays_are_applied_and_taken_back", overlays::overlays_are_applied_and_taken_back),
        ("a_policy_overlay_and_what_is_done_with_it", overlays::a_policy_overlay_and_what_is_done_with_it),
        (
            "a_policy_in_a_config_map_changes_how_live_connections_spread",
            policy::a_policy_in_a_config_map_changes_how_live_connections_spread,
        ),
    ] {
        trials.push(trial(name, test).with_ignored_flag(missing.is_some()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
