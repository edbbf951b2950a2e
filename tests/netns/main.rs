//! Weir on a real kernel: real connections through every kind of frontend, in namespaces the suite makes itself.
//!
//! Needs no root where user namespaces are allowed. Otherwise all of it is skipped, loudly; `REQUIRE_NETNS=1` makes
//! that a failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

/// What a change does to connections, and to the kernel: updates, restarts, foreign hands.
mod changes;
/// What becomes of flows whose endpoint goes away.
mod conntrack;
/// Every frontend, from every side, with the source address the backend sees; reject, drop, hairpin.
mod frontends;
/// Segments outside of the TCP window.
mod invalid;
/// How many connections each endpoint has.
mod load;
/// What the node is told about itself: who is a pod, what is rejected.
mod node_facts;
/// How connections spread: distributions, turns, affinity.
mod spreading;
/// What `nft list ruleset`, as an independent witness, says of our tables.
mod witness;

use libtest_mimic::Arguments;
use weir_testbed::enter_for_tests;
use weir_tests::trials;

fn main() {
    let arguments = Arguments::from_args();
    if !enter_for_tests("netns") {
        return;
    }
    let trials = trials![
        frontends::{
            every_frontend_works,
            backends_see_the_client_or_the_node,
            external_local_keeps_the_client,
            external_local_without_endpoint_here_drops,
            internal_local_stays_on_the_node,
            a_backend_reaches_itself,
            no_endpoint_rejects_at_once,
            what_nobody_serves,
            node_ports_are_on_the_primary_address_only,
            source_ranges_go_before_the_translations_of_others,
            refusals_come_after_the_translations_of_others,
        }
        spreading::{
            random_is_uniform,
            weights_are_kept,
            round_robin_takes_turns,
            new_clients_take_turns,
            clients_stay_with_their_backend,
            affinity_ends_with_its_timeout,
            affinity_ends_with_its_backend,
            affinity_outlives_a_restart,
        }
        changes::{
            a_second_sync_sends_nothing,
            a_restart_sends_nothing_and_breaks_nothing,
            endpoints_come_and_go_under_load,
            a_removed_service_leaves_nothing,
            rules_outlive_weir,
            a_flush_cannot_remove_the_tables,
        }
        conntrack::{
            should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_cluster_ip_service,
            should_be_able_to_preserve_udp_traffic_when_server_pod_cycles_for_a_node_port_service,
            should_be_able_to_preserve_udp_traffic_when_initial_unready_endpoints_get_ready,
            a_service_scaled_to_zero_and_back_keeps_no_flow,
            flows_end_with_their_service,
            flows_end_where_a_port_changes,
            flows_end_that_lost_their_service_while_weir_was_down,
            flows_older_than_the_service_reach_it,
            the_node_port_of_another_address_is_left_alone,
            a_restart_ends_no_flow,
            healthy_flows_outlive_the_changes_of_others,
            stale_tcp_is_reset_only_if_asked_for,
        }
        invalid::{
            should_drop_invalid_conntrack_entries,
        }
        load::{
            connections_are_counted_from_open_to_close,
            udp_flows_are_counted_until_their_entry_ends,
            a_burst_beyond_the_receive_buffer_ends_with_the_right_numbers,
            nobody_listens_while_nobody_asks,
        }
        node_facts::{
            pods_are_told_by_their_network,
            pods_are_told_by_their_interface,
            pods_that_cannot_be_told_are_like_others,
            everybody_is_masqueraded_on_request,
            unused_ports_of_external_addresses_are_refused_on_request,
            a_refusal_is_immediate,
            pods_behind_a_bridge_are_served_and_refused,
        }
        witness::{
            no_chain_for_a_service,
            rules_are_readable,
        }
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
