//! kube-proxy's `mode`, and what it means to a proxy that has one mode only.

use super::layer::Layer;

/// The mode somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// None: kube-proxy would take its own default, Weir takes the only one it has.
    Unsaid,
    /// What Weir does.
    Nftables,
    /// What people come from who want a scheduler.
    Ipvs,
}

impl Mode {
    /// Reads `mode`.
    ///
    /// # Errors
    /// For a mode Weir cannot stand in for; the sentence says what to do.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::Unsaid),
            "nftables" => Ok(Self::Nftables),
            "ipvs" => Ok(Self::Ipvs),
            "iptables" => {
                Err("Weir programs nftables only: say `nftables` here, or start it with --proxy-mode nftables; \
                               remove the rules kube-proxy left with `kube-proxy --cleanup`"
                    .to_owned())
            }
            other => Err(format!("{other:?} is none of nftables, ipvs")),
        }
    }
}

/// Says which policy stands in for an IPVS `scheduler`, as the node's default. Returns what the operator must know.
pub(super) fn ipvs(scheduler: &str, layer: &mut Layer) -> Vec<String> {
    // The documented default of kube-proxy's `ipvs.scheduler`.
    let scheduler = if scheduler.is_empty() { "rr" } else { scheduler };
    let mut notes = vec!["mode ipvs: Weir programs nftables, and keeps the scheduler as the default policy".to_owned()];
    match weir_model::ipvs::stand_in(scheduler, &[]) {
        // The catalog knows the policy by this name, too, with the settings that make it the same.
        Ok(_) => layer.set("policies.balancer", scheduler),
        Err(why) => notes.push(format!(
            "ipvs.scheduler: {why}. The default stays; set `policies.balancer` of a WeirConfiguration to choose another"
        )),
    }
    notes
}
