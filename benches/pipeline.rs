//! The whole pipeline by stages, into the real kernel of a namespace made for it: a full sync from nothing, the same
//! over itself (a restart), and one endpoint that changes. Time of the stages is printed beside criterion's figures.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group};
use weir_benches::{catalog, cluster, pipeline, slice, store};
use weir_model::{Event, Family};
use weir_netlink::Kernel;
use weir_nft::{Dataplane, Op, Transaction};
use weir_policy::Decider;

/// Services of the two sizes, and endpoints of each Service.
const SIZES: [usize; 2] = [1_000, 10_000];
const ENDPOINTS: usize = 10;

fn empty_kernel() -> Kernel {
    let mut kernel = Kernel::open().expect("netlink");
    let ops = Family::ALL.into_iter().flat_map(|family| [Op::AddTable(family), Op::DelTable(family)]).collect();
    kernel.commit(&Transaction { ops }).expect("an empty kernel");
    kernel
}

fn stages(c: &mut Criterion) {
    let catalog = catalog();
    for services in SIZES {
        let mut group = c.benchmark_group("stages");
        group.sample_size(10).throughput(Throughput::Elements((services * ENDPOINTS) as u64));
        let size = format!("{services}x{ENDPOINTS}");
        let list = cluster(services, ENDPOINTS);
        group.bench_with_input(BenchmarkId::new("model", &size), &list, |b, list| {
            b.iter_batched(
                || (store(), list.clone()),
                |(mut store, list)| {
                    store.apply(list);
                    store
                },
                BatchSize::PerIteration,
            );
        });
        let mut full = store();
        full.apply(list.clone());
        let dirty = full.take_dirty();
        group.bench_function(BenchmarkId::new("decide", &size), |b| {
            b.iter_batched(
                || Decider::new(catalog.clone()),
                |mut decider| {
                    let decisions = decider.decide(&full, &dirty);
                    (decider, decisions)
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("full sync, model to kernel", &size), |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let mut pipeline = pipeline(&catalog, empty_kernel());
                    let list = list.clone();
                    let start = Instant::now();
                    pipeline.apply(list);
                    black_box(pipeline.sync().expect("a sync"));
                    total += start.elapsed();
                }
                total
            });
        });
        group.finish();
        print_stages(&catalog, services, &list);
    }
}

/// One more full sync, a restart over it, and what each stage of them took.
fn print_stages(catalog: &weir_policy::Catalog, services: usize, list: &Event) {
    for (what, kernel) in [("from nothing", Some(empty_kernel())), ("over itself", None)] {
        let kernel = kernel.unwrap_or_else(|| Kernel::open().expect("netlink"));
        let mut pipeline = pipeline(catalog, kernel);
        let start = Instant::now();
        pipeline.apply(list.clone());
        let model = start.elapsed();
        let outcome = pipeline.sync().expect("a sync");
        println!(
            "{services}x{ENDPOINTS} {what}: {:?} (model {model:?}, {:?}), {} elements sent",
            start.elapsed(),
            outcome.timings,
            outcome.transaction.element_count()
        );
    }
}

fn one_endpoint(c: &mut Criterion) {
    let catalog = catalog();
    let mut group = c.benchmark_group("one endpoint moves, event to committed");
    for services in SIZES {
        let mut pipeline = pipeline(&catalog, empty_kernel());
        pipeline.apply(cluster(services, ENDPOINTS));
        pipeline.sync().expect("a sync");
        let mut generation = 0;
        group.bench_function(BenchmarkId::from_parameter(format!("{services}x{ENDPOINTS}")), |b| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    // Round after round through all Services: each call really moves an endpoint.
                    let event = Event::Slice(slice(generation % services, ENDPOINTS, generation / services + 1));
                    generation += 1;
                    let start = Instant::now();
                    pipeline.apply(event);
                    let outcome = pipeline.sync().expect("a sync");
                    took += start.elapsed();
                    pipeline.tidy();
                    assert!(!outcome.transaction.is_empty(), "nothing moved");
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stages, one_endpoint);

fn main() {
    // The namespace comes first, while there is a single thread; it goes with the process.
    if let Err(error) = weir_testbed::enter() {
        eprintln!("not run: {error}");
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
