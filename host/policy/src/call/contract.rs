//! The versions of the contract a policy may speak.

use wasmtime::component::InstancePre;

use crate::bindings::exports::weir::policy::{about, balancer, traffic_policy};
use crate::bindings::v0_1::exports::weir::policy as v0_1;
use crate::host::HostState;

/// Where a policy's exports are, by the contract it speaks.
#[derive(Clone)]
pub(crate) enum Contract {
    /// 0.1.
    V0_1 { traffic: Option<v0_1::traffic_policy::GuestIndices>, balancer: Option<v0_1::balancer::GuestIndices> },
    /// 0.2.
    V0_2 {
        about: about::GuestIndices,
        traffic: Option<traffic_policy::GuestIndices>,
        balancer: Option<balancer::GuestIndices>,
    },
}

impl Contract {
    /// The newest contract that component plays a role of; `None` when it plays none.
    pub(crate) fn of(pre: &InstancePre<HostState>) -> Option<Self> {
        let (traffic, balancer) = (traffic_policy::GuestIndices::new(pre).ok(), balancer::GuestIndices::new(pre).ok());
        if let (true, Ok(about)) = (traffic.is_some() || balancer.is_some(), about::GuestIndices::new(pre)) {
            return Some(Self::V0_2 { about, traffic, balancer });
        }
        let traffic = v0_1::traffic_policy::GuestIndices::new(pre).ok();
        let balancer = v0_1::balancer::GuestIndices::new(pre).ok();
        (traffic.is_some() || balancer.is_some()).then_some(Self::V0_1 { traffic, balancer })
    }

    /// Whether it plays the role of the traffic policy.
    pub(crate) fn decides(&self) -> bool {
        match self {
            Self::V0_1 { traffic, .. } => traffic.is_some(),
            Self::V0_2 { traffic, .. } => traffic.is_some(),
        }
    }

    /// Whether it plays the role of the balancer.
    pub(crate) fn balances(&self) -> bool {
        match self {
            Self::V0_1 { balancer, .. } => balancer.is_some(),
            Self::V0_2 { balancer, .. } => balancer.is_some(),
        }
    }

    /// As people write it.
    pub(crate) fn version(&self) -> &'static str {
        match self {
            Self::V0_1 { .. } => "0.1",
            Self::V0_2 { .. } => "0.2",
        }
    }
}
