//! The plot: for each cell the peers' bars, side by side, as an SVG that any browser shows.

use std::fmt::Write as _;

use crate::broadcasts::{self, Heard};
use crate::report::{Taking, name_of};
use crate::role::Sample;
use crate::rounds::{self, Cell};

const BAR: usize = 16;
const LABELS: usize = 170;
const WIDTH: usize = 900;
const TITLE: usize = 34;

/// One chart: a title, and a bar for each peer.
struct Chart {
    title: String,
    bars: Vec<(String, f64)>,
}

/// Throughput of each cell, p50 of those with one call in flight, and events.
pub fn plot(peers: &[Taking], calls: &rounds::Measured, events: &broadcasts::Measured) -> String {
    let mut charts = Vec::new();
    let mut add = |title: String, value: &dyn Fn(&str) -> Option<f64>| {
        let bars = peers.iter().filter_map(|peer| Some((peer.name.clone(), value(&peer.name)?)));
        charts.push(Chart { title, bars: bars.collect() });
    };
    for cell in calls.samples.keys() {
        let (what, of): (_, fn(&Sample) -> f64) = match cell {
            Cell { pace: Some(_), .. } => {
                ("CPU a call, both sides, µs (less is better)", |s| s.client_cpu + s.server_cpu)
            }
            Cell { in_flight: 1, .. } => ("p50, µs (less is better)", |sample| sample.p50),
            _ => ("calls a second", Sample::rate),
        };
        add(format!("{}: {what}", name_of(*cell)), &|peer| calls.median(*cell, peer, of));
    }
    for subscribers in events.heard.keys() {
        let title =
            format!("events of {} B: events a second at each of {subscribers} subscribers", broadcasts::SIZE);
        add(title, &|peer| events.median(*subscribers, peer, |heard: &Heard| heard.rate));
    }
    draw(&charts)
}

fn draw(charts: &[Chart]) -> String {
    let height: usize = charts.iter().map(|chart| TITLE + BAR * chart.bars.len()).sum::<usize>() + 20;
    let mut svg = String::new();
    let out = &mut svg;
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).and_then(|()| out.write_char('\n')).expect("writing to a string succeeds");
    };
    line(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">"#
    ));
    line(format_args!(r#"<rect width="{WIDTH}" height="{height}" fill="white"/>"#));
    let mut top = 0;
    for chart in charts {
        top += TITLE;
        line(format_args!(r#"<text x="10" y="{}" font-weight="bold">{}</text>"#, top - 8, chart.title));
        let most = chart.bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value) in &chart.bars {
            let length = (value / most * (WIDTH - LABELS - 100) as f64).max(1.0);
            let colour = if name.starts_with("selfsame") { "#c2410c" } else { "#94a3b8" };
            let base = top + BAR - 5;
            line(format_args!(r#"<text x="{}" y="{base}" text-anchor="end">{name}</text>"#, LABELS - 8));
            line(format_args!(
                r#"<rect x="{LABELS}" y="{}" width="{length:.1}" height="{}" fill="{colour}"/>"#,
                top + 2,
                BAR - 4
            ));
            let end = LABELS as f64 + length + 5.0;
            line(format_args!(r#"<text x="{end:.1}" y="{base}">{}</text>"#, short(*value)));
            top += BAR;
        }
    }
    line(format_args!("</svg>"));
    svg
}

fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e3.. => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bars = vec![("raw".to_owned(), 200.0), ("selfsame".to_owned(), 100.0)];
        let svg = draw(&[Chart { title: "a title".into(), bars }]);
        assert!(svg.contains(r#"width="630.0""#) && svg.contains(r#"width="315.0""#), "{svg}");
    }
}
