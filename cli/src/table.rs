//! What a broker tells of itself, as text for people.

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::Value;

/// A list of objects as a table with a row for each; one object as a table of names and values.
pub(crate) fn render(told: &Value) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    match told {
        Value::Array(rows) => {
            let Some(Value::Object(first)) = rows.first() else { return "none\n".to_owned() };
            table.set_header(first.keys().map(|name| name.replace('_', " ")));
            for row in rows {
                table.add_row(first.keys().map(|name| cell(row.get(name).unwrap_or(&Value::Null))));
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                table.add_row([Cell::new(name.replace('_', " ")), cell(value)]);
            }
        }
        other => return format!("{other}\n"),
    }
    format!("{}\n", table.trim_fmt())
}

/// Names and values, in this order.
pub(crate) fn pairs(rows: &[(String, String)]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([Cell::new(printable(name)), Cell::new(printable(value)).set_alignment(CellAlignment::Right)]);
    }
    format!("{}\n", table.trim_fmt())
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::new("-"),
        Value::String(text) => Cell::new(printable(text)),
        Value::Number(number) => Cell::new(number).set_alignment(CellAlignment::Right),
        Value::Array(values) => {
            let words: Vec<_> =
                values.iter().map(|value| value.as_str().map_or(value.to_string(), printable)).collect();
            Cell::new(words.join(", "))
        }
        other => Cell::new(other),
    }
}

/// A service's name comes from elsewhere: what could steer a terminal is shown, not sent.
pub(crate) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_objects_become_tables_and_nothing_becomes_none() {
        let services = serde_json::json!([{ "name": "echo\u{1b}[31m", "in_flight": 2 }]);
        let text = render(&services);
        assert!(text.contains("in flight") && text.contains("echo\\u{1b}[31m") && text.contains('2'), "{text}");
        assert!(render(&serde_json::json!({ "workers": 3, "protocols": ["0.1", "0.2"] })).contains("0.1, 0.2"));
        assert_eq!(render(&serde_json::json!([])), "none\n");
    }
}
