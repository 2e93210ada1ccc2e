//! The ratios as a picture: one bar for each case, on a logarithmic scale, with its goal.

use std::fmt::Write as _;

use crate::report::Comparison;

const ROW_PX: f64 = 26.0;
const LABEL_PX: f64 = 290.0;
const WIDTH_PX: f64 = 860.0;
/// Ratios at both ends of the scale.
const SCALE: [f64; 2] = [0.1, 1000.0];
const TOP_PX: f64 = 46.0;

/// Where a ratio stands.
fn x(ratio: f64) -> f64 {
    let [least, most] = SCALE.map(f64::log10);
    let share = (ratio.clamp(SCALE[0], SCALE[1]).log10() - least) / (most - least);
    LABEL_PX + share * (WIDTH_PX - LABEL_PX - 70.0)
}

/// An SVG document.
pub fn svg(comparison: &Comparison) -> String {
    let cases: Vec<_> = comparison
        .cases()
        .into_iter()
        .filter(|(at, _)| comparison.standing(*at).rate.is_finite())
        .collect();
    let bottom = TOP_PX + ROW_PX * cases.len() as f64;
    let peer = comparison.subjects.get(1).map_or("-", |it| it.name.as_str());
    // Writing to a string cannot fail.
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH_PX}' height='{}' \
         font-family='sans-serif' font-size='13'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='10' y='20' font-weight='bold'>Times as fast as {peer} (line: goal)</text>",
        bottom + 12.0
    );
    for ratio in [0.1, 1.0, 10.0, 100.0, 1000.0] {
        let (at, shade) = (x(ratio), if ratio == 1.0 { "#444" } else { "#ddd" });
        let _ = writeln!(
            out,
            "<line x1='{at:.1}' y1='{TOP_PX}' x2='{at:.1}' y2='{bottom}' stroke='{shade}'/>\
             <text x='{at:.1}' y='{}' text-anchor='middle' fill='#666'>{ratio}</text>",
            TOP_PX - 6.0
        );
    }
    for (row, (at, case)) in cases.into_iter().enumerate() {
        let ratio = comparison.standing(at).rate;
        let y = TOP_PX + ROW_PX * row as f64;
        let (from, to) = (x(1.0).min(x(ratio)), x(1.0).max(x(ratio)));
        let reached = case.goal.rate.is_none_or(|goal| ratio >= goal);
        let color = if reached { "#2b7a4b" } else { "#c0562b" };
        let (text_y, label, width) = (y + 17.0, case.label(), (to - from).max(1.0));
        let _ = writeln!(
            out,
            "<text x='10' y='{text_y:.1}'>{label}</text>\
             <rect x='{from:.1}' y='{:.1}' width='{width:.1}' height='16' fill='{color}'/>\
             <text x='{:.1}' y='{text_y:.1}'>{ratio:.1}</text>",
            y + 5.0,
            to + 6.0,
        );
        if let Some(goal) = case.goal.rate {
            let (at, top, foot) = (x(goal), y + 2.0, y + 24.0);
            let _ = writeln!(
                out,
                "<line x1='{at:.1}' y1='{top:.1}' x2='{at:.1}' y2='{foot:.1}' stroke='black' \
                 stroke-width='2'/>",
            );
        }
    }
    out + "</svg>\n"
}
