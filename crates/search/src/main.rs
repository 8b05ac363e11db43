//! x
use selfsame_search::{explore::explore, scenario, world::World};
use std::time::Instant;
fn main() {
    let store = std::env::args().nth(1).unwrap_or("memory".into());
    let limit = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(5_000_000);
    for scenario in scenario::standard(&store) {
        let mut world = World::new(scenario, true);
        let began = Instant::now();
        let report = explore(&mut world, limit);
        println!(
            "{store} {}: {} states {} steps depth {} complete {} broken {:?} {:?} {:.1?}",
            scenario.name,
            report.states,
            report.steps,
            report.depth,
            report.complete,
            report.broken.as_ref().map(|b| b.0),
            world.sizes(),
            began.elapsed()
        );
        if let Some((_, events)) = report.broken {
            for line in selfsame_search::trace::play(&mut world, &events).unwrap().0 {
                println!("    {line}");
            }
        }
    }
}
