//! What Weir itself does on a node beside programming rules: listeners, and the watch of the node's addresses. Real
//! connections, in namespaces the suite makes itself.
//!
//! Needs no root where user namespaces are allowed. Otherwise all of it is skipped, loudly; `REQUIRE_NETNS=1` makes
//! that a failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

/// The node's addresses and routes, as they come and go.
mod address_changes;
/// A follower on a testbed.
mod followed;
/// `healthCheckNodePort`, asked by HTTP.
mod health_ports;
/// Node ports on loopback.
mod localhost_ports;

use libtest_mimic::Arguments;
use weir_testbed::enter_for_tests;
use weir_tests::trials;

fn main() {
    let arguments = Arguments::from_args();
    if !enter_for_tests("node") {
        return;
    }
    let trials = trials![
        health_ports::{
            answers_as_kube_proxy_does_in_both_families,
            counts_each_address_once,
            should_fail_health_check_node_port_if_there_are_only_terminating_endpoints,
            an_unhealthy_proxy_says_so,
            the_port_follows_the_service,
            a_busy_port_is_taken_once_it_is_free,
            the_older_service_keeps_a_port,
            a_silent_client_does_not_stay,
        }
        localhost_ports::{
            connections_spread_by_weight,
            only_asked_families_listen,
            external_local_stays_on_the_node,
            no_endpoint_is_refused,
            affinity_keeps_one_endpoint_for_all,
            another_endpoint_serves_when_one_refuses,
            when_all_refuse_the_client_is_reset,
            half_closed_connections_go_on,
            the_end_of_the_service_ends_its_connections,
            a_busy_port_is_taken_once_it_is_free,
            udp_is_not_served,
        }
        address_changes::{
            every_kind_of_change_is_told,
            a_burst_is_one_change,
            a_dropped_wait_loses_nothing,
            a_lost_message_is_a_change,
            the_primary_address_is_followed,
        }
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
