//! How old our knowledge of the cluster is, read at each scrape.

use std::fmt;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use weir_source::kubernetes::{Kind, SourceHealth};

/// Seconds since the API server was last heard of, kind by kind. Kinds it does not have are left out, and so are all of
/// them without a cluster.
#[derive(Debug)]
pub(super) struct DataAge(pub(super) SourceHealth);

impl Collector for DataAge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = Instant::now();
        let known =
            |kind: Kind| self.0.age(kind, now).map(|age| (kind.to_string(), ConstGauge::new(age.as_secs_f64())));
        let ages: Vec<_> = Kind::ALL.into_iter().filter_map(known).collect();
        let Some((_, first)) = ages.first() else { return Ok(()) };
        let help = "Time since the API server was last heard of; a healthy watch gives a sign of life a minute";
        let kind = first.metric_type();
        let mut family = encoder.encode_descriptor("source_age_seconds", help, None, kind)?;
        for (kind, age) in &ages {
            age.encode(family.encode_family(&[("kind", kind.as_str())])?)?;
        }
        Ok(())
    }
}
