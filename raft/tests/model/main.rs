//! x
mod cluster;
mod letters;
mod log;
mod node;
mod rules;
mod tables;

use cluster::{Bound, Cluster};
use stateright::{Checker, Model};

#[test]
fn probe() {
    let n = |name: &str, d: u8| std::env::var(name).map_or(d, |v| v.parse().unwrap());
    let bound = Bound { terms: n("T",2), timeouts: n("TO",1), beats: n("B",0), proposals: n("P",0), crashes: n("C",0), links: if n("O",1)==1 {cluster::Links::InOrder} else {cluster::Links::AnyOrder} };
    let start = std::time::Instant::now();
    let checker = Cluster::new(bound, None).checker().threads(2).timeout(std::time::Duration::from_secs(n("SECS",60) as u64)).spawn_dfs();
    while !checker.is_done() { std::thread::sleep(std::time::Duration::from_millis(200)); }
    println!("{bound:?} {} unique, {} generated, depth {}, tables {:?} {:?}", checker.unique_state_count(), checker.state_count(), checker.max_depth(), checker.model().tables.sizes(), start.elapsed());
    for (name, path) in checker.discoveries() { println!("== {name} {}", path.clone().into_actions().len()); if checker.discovery_classification(name).to_string().contains("counter") { for a in path.into_actions() { println!("   {a:?}"); } } }
}
