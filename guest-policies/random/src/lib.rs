//! Balancer: every connection goes to a random endpoint, all of them equally likely.
//!
//! What kube-proxy does. It takes no settings, looks at no weights, and keeps the affinity a Service asks for.

use kit::{Answer, Balancer, IndexFunction, Members, NoSettings, Share};

struct Random;

impl Balancer for Random {
    type Settings = NoSettings;

    const NAME: &str = "random";
    const SUMMARY: &str = "Every connection goes to a random endpoint, as with kube-proxy.";

    fn spread(_: &NoSettings, _: &Members<'_>) -> Answer {
        Answer::new(IndexFunction::Random, Share::Equal)
    }
}

kit::policy!(Random);
