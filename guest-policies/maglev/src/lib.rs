//! Balancer: by a hash of the client's address, through a table that changes little when endpoints come and go.
//!
//! IPVS' `mh`, after "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016). The table follows from
//! what the endpoints are, not from where they stand in a list, so it is the same on every node. Weights of
//! EndpointSlices count; 0 drains. Settings:
//!
//! ```json
//! { "table-size": 1021, "include-port": false }
//! ```
//!
//! `table-size` is a prime from 2 to 16381. Without it the table has at least ten slots for each endpoint: 251, 1021,
//! 4093 or 16381; the step from one to the next, at 26, 103 and 410 endpoints, moves most clients. With `include-port`
//! the client's port counts as well (IPVS: `mh-port`).

use kit::schedulers::maglev;
use kit::schedulers::settings::{Fields, Settings};
use kit::schedulers::share::{Choice, Share, living};
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, label};

struct Table {
    size: Option<u32>,
    include_port: bool,
}

impl Settings for Table {
    fn read(fields: &mut Fields) -> Self {
        let size = fields.number("table-size", 2..=maglev::LARGEST);
        if let Some(size) = size.filter(|size| !maglev::is_prime(*size)) {
            fields.refuse("table-size", format!("{size} is no prime; 251, 1021, 4093 and 16381 are some"));
        }
        Self { size, include_port: fields.flag("include-port").unwrap_or(false) }
    }
}

struct Maglev;

impl Balancer for Maglev {
    type Settings = Table;

    const LABEL: Label = label!(
        "The endpoint follows from the client's address, and few clients move when endpoints change.",
        Inputs::NAMES
    );

    fn spread(settings: &Table, list: &List<'_>) -> Spread {
        let index = if settings.include_port { IndexFunction::FlowHash } else { IndexFunction::SourceHash };
        let (weights, reason) = living(list.weights().to_vec());
        let serving = weights.iter().filter(|weight| **weight > 0).count();
        let size = settings.size.unwrap_or_else(|| maglev::usual_size(serving));
        let share = match &weights[..] {
            [_] => Share::Equal,
            weights => Share::Slots(maglev::table(list.ids(), weights, size)),
        };
        let crowded = serving > 1 && (size as usize) < 10 * serving;
        let reason = match crowded {
            true => format!("{serving} endpoints on {size} slots get uneven shares"),
            false => reason,
        };
        Spread::new(index, Choice { share, reason })
    }
}

kit::export!(Maglev);
