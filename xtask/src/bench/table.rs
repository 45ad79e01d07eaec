//! What a run prints: a table in Markdown, or JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::Setting;
use super::comparison::{Comparison, Target};
use super::contender::Contender;
use super::figures::{Quantity, Results, Summary, compare};

/// One comparison in JSON.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    quantity: Quantity,
    /// Whether `result` is the first figure divided by the second.
    is_ratio: bool,
    result: Option<Summary>,
    target: Option<Target>,
    /// Of the median; `None` without a target or a result.
    is_met: Option<bool>,
    figures: Vec<Figure>,
    failures: Vec<&'a str>,
}

/// What one contender measured, in the units of [`Quantity`].
#[derive(Serialize)]
struct Figure {
    contender: String,
    quantity: Quantity,
    #[serde(flatten)]
    summary: Summary,
}

#[derive(Serialize)]
struct Document<'a> {
    setting: &'a Setting,
    comparisons: Vec<Row<'a>>,
}

/// All of it for programs.
pub(crate) fn json(setting: &Setting, comparisons: &[Comparison], results: &Results) -> Result<String> {
    let comparisons = comparisons.iter().map(|comparison| row(comparison, results)).collect();
    Ok(serde_json::to_string_pretty(&Document { setting, comparisons })?)
}

/// All of it for people.
pub(crate) fn markdown(setting: &Setting, comparisons: &[Comparison], results: &Results) -> String {
    let Setting { processor, cores, kernel, protocol, repetitions } = setting;
    let mut text = format!(
        "{processor}, {cores} cores, Linux {kernel}; steady mode, repetitions in turn: {repetitions}; protocol {protocol}.\n\n\
         | comparison | what | min / median / max | target | met | medians |\n|---|---|---|---|---|---|\n"
    );
    for comparison in comparisons {
        let row = row(comparison, results);
        let show = |value: f64| show(comparison, value);
        let result = row.result.map_or("**failed**".to_owned(), |Summary { min, median, max }| {
            format!("{} / **{}** / {}", show(min), show(median), show(max))
        });
        let target = match row.target {
            Some(Target::AtLeast(bound)) => format!("≥ {}", show(bound)),
            Some(Target::AtMost(bound)) => format!("≤ {}", show(bound)),
            None => "–".to_owned(),
        };
        let met = match row.is_met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let figures: Vec<String> = row
            .figures
            .iter()
            .map(|Figure { contender, quantity, summary }| match quantity {
                Quantity::P99 => format!("99th percentile {}", quantity.show(summary.median)),
                _ => format!("{contender}: {}", quantity.show(summary.median)),
            })
            .collect();
        let _ = writeln!(
            text,
            "| {} | {}{} | {result} | {target} | {met} | {} |",
            row.name,
            comparison.quantity.title(),
            if row.is_ratio { ", ratio" } else { "" },
            figures.join("; ")
        );
    }
    let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
    for failure in results.values().flat_map(|figures| &figures.failures) {
        *failures.entry(failure).or_default() += 1;
    }
    if !failures.is_empty() {
        text.push_str("\n**Failed:**\n\n");
    }
    for (failure, times) in failures {
        let _ = writeln!(text, "- {times} ×: {}", failure.replace('\n', " "));
    }
    text
}

/// The comparisons whose targets are missed, each with what was measured.
pub(crate) fn missed(comparisons: &[Comparison], results: &Results) -> Vec<String> {
    let missed = |comparison: &&Comparison| row(comparison, results).is_met == Some(false);
    comparisons
        .iter()
        .filter(missed)
        .map(|comparison| format!("{}, {}", comparison.name, comparison.of.title()))
        .collect()
}

/// A ratio as it is, or a figure with its unit.
fn show(comparison: &Comparison, value: f64) -> String {
    if comparison.to.is_some() { format!("{value:.2}") } else { comparison.quantity.show(value) }
}

fn row<'a>(comparison: &Comparison, results: &'a Results) -> Row<'a> {
    let result = compare(comparison, results);
    let contenders: Vec<Contender> = comparison.contenders().collect();
    let failures: Vec<&str> = contenders
        .iter()
        .filter_map(|contender| results.get(contender))
        .flat_map(|figures| figures.failures.iter().map(String::as_str))
        .collect();
    // A comparison that failed now and then is not one that was met.
    let is_met =
        comparison.target.zip(result).map(|(target, result)| failures.is_empty() && target.is_met(result.median));
    let mut figures = Vec::new();
    for contender in &contenders {
        let told: &[Quantity] = if comparison.quantity == Quantity::Median {
            &[Quantity::Median, Quantity::P99]
        } else {
            &[comparison.quantity]
        };
        for &quantity in told {
            if let Some(summary) = results.get(contender).and_then(|figures| figures.summary(quantity)) {
                let contender = contender.title();
                figures.push(Figure { contender, quantity, summary });
            }
        }
    }
    let target = comparison.target;
    let is_ratio = comparison.to.is_some();
    Row { name: comparison.name, quantity: comparison.quantity, is_ratio, result, target, is_met, figures, failures }
}
