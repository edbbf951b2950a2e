//! The end-to-end tests of Kubernetes' sig-network, each by its own name, on one node out of network namespaces: objects
//! in a directory of manifests, real connections from pods, from the node and from outside.
//!
//! Needs no root where user namespaces are allowed. Otherwise all of it is skipped, loudly; `REQUIRE_NETNS=1` makes
//! that a failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

/// `sessionAffinity: ClientIP`.
mod affinity;
mod cluster;
/// What a cluster must do to be called Kubernetes, as far as it concerns the proxy.
mod conformance;
/// Restarts, and foreign hands on the rules.
mod disruptive;
/// Which endpoints count.
mod endpoints;
mod granular;
/// Services that come, change and go.
mod life_cycle;
mod objects;
/// Services that are not for this proxy.
mod opt_out;
/// The ways packets take, and whose address they bear.
mod paths;
/// `internalTrafficPolicy`, and load balancers from inside.
mod policy;
mod sctp;
mod servers;
/// Endpoints that shut down.
mod terminating;

use libtest_mimic::Arguments;
use weir_testbed::enter_for_tests;
use weir_tests::trials;

/// Trials at once. They wait for time-outs most of the time, so more than there are processors.
const THREADS: usize = 8;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    if !enter_for_tests("e2e") {
        return;
    }
    let mut trials = trials![
        conformance::{
            should_serve_a_basic_endpoint_from_pods,
            should_serve_multiport_endpoints_from_pods,
            should_serve_endpoints_on_same_port_and_different_protocols,
            should_be_able_to_create_a_functioning_node_port_service,
            should_be_able_to_change_the_type_from_external_name_to_cluster_ip,
            should_be_able_to_change_the_type_from_external_name_to_node_port,
            should_be_able_to_change_the_type_from_cluster_ip_to_external_name,
            should_be_able_to_change_the_type_from_node_port_to_external_name,
            should_have_session_affinity_work_for_service_with_type_cluster_ip,
            should_have_session_affinity_work_for_node_port_service,
            should_be_able_to_switch_session_affinity_for_service_with_type_cluster_ip,
            should_be_able_to_switch_session_affinity_for_node_port_service,
            should_find_a_service_from_listing_all_namespaces,
            should_complete_a_service_status_lifecycle,
            should_delete_a_collection_of_services,
            should_test_the_lifecycle_of_an_endpoint,
            should_provide_secure_master_service,
            service_endpoints_latency_should_not_be_very_high,
        }
        affinity::{
            should_have_session_affinity_timeout_work_for_service_with_type_cluster_ip,
            should_have_session_affinity_timeout_work_for_node_port_service,
        }
        life_cycle::{
            should_be_able_to_up_and_down_services,
            should_work_after_the_service_has_been_recreated,
            should_be_updated_after_adding_or_deleting_ports,
            should_be_able_to_update_service_type_to_node_port_listening_on_same_port_number_but_different_protocols,
            should_release_node_ports_on_delete,
            should_prevent_node_port_collisions,
        }
        disruptive::{
            should_work_after_restarting_kube_proxy,
            should_recreate_its_iptables_rules_if_they_are_deleted,
        }
        endpoints::{
            should_be_rejected_when_no_endpoints_exist,
            should_be_rejected_for_evicted_pods,
            should_be_able_to_connect_to_terminating_and_unready_endpoints_if_publish_not_ready_addresses_is_true,
            should_not_be_able_to_connect_to_terminating_and_unready_endpoints_if_publish_not_ready_addresses_is_false,
            should_create_endpoints_for_unready_pods,
        }
        terminating::{
            should_fallback_to_terminating_endpoints_when_there_are_no_ready_endpoints_with_internal_traffic_policy_cluster,
            should_fallback_to_local_terminating_endpoints_when_there_are_no_ready_endpoints_with_internal_traffic_policy_local,
            should_fallback_to_terminating_endpoints_when_there_are_no_ready_endpoints_with_external_traffic_policy_cluster,
            should_fallback_to_local_terminating_endpoints_when_there_are_no_ready_endpoints_with_external_traffic_policy_local,
        }
        policy::{
            should_respect_internal_traffic_policy_local_pod_to_pod,
            should_respect_internal_traffic_policy_local_pod_host_network_to_pod,
            should_respect_internal_traffic_policy_local_pod_and_node_to_pod_host_network,
            should_serve_endpoints_on_same_port_and_different_protocol_for_internal_traffic_on_type_load_balancer,
        }
        paths::{
            should_allow_pods_to_hairpin_back_to_themselves_through_services,
            should_preserve_source_pod_ip_for_traffic_thru_service_cluster_ip,
            should_be_possible_to_connect_to_a_service_via_external_ip_when_the_external_ip_is_not_assigned_to_a_node,
        }
        opt_out::{
            should_implement_service_kubernetes_io_service_proxy_name,
            should_implement_service_kubernetes_io_headless,
        }
    ];
    let sctp = trials![sctp::{should_allow_creating_a_basic_sctp_service_with_pod_and_endpoints}];
    trials.extend(sctp.into_iter().map(sctp::if_tracked));
    trials.extend(granular::trials());
    trials.extend(servers::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
