//! No exported function without the guard: counted in the sources, so that a new one cannot be forgotten.

use std::fs;
use std::path::Path;

/// The exported functions of a source file, each with the first line of its body.
fn exported(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let Some((_, rest)) = line.split_once("extern \"C\" fn ") else { continue };
        if !line.starts_with("pub ") {
            continue;
        }
        let name = rest.split('(').next().unwrap_or_default().to_owned();
        let mut last = line;
        while !last.ends_with('{') {
            last = lines.next().unwrap_or("{");
        }
        let body = lines.by_ref().map(str::trim).find(|line| !line.starts_with("static ")).unwrap_or_default();
        found.push((name, body.to_owned()));
    }
    found
}

fn sources() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.is_file()).filter_map(|path| fs::read_to_string(path).ok()).collect()
}

#[test]
fn every_exported_function_passes_through_the_guard() {
    let functions: Vec<_> = sources().iter().flat_map(|source| exported(source)).collect();
    let unguarded: Vec<_> = functions
        .iter()
        .filter(|(_, body)| {
            !["guard(", "guard_on(", "guard_message(", "guard_text("].iter().any(|guard| body.starts_with(guard))
        })
        .collect();
    assert!(unguarded.is_empty(), "without a guard: {unguarded:?}");
    assert!(functions.len() > 80, "only {} functions found: the scan is blind", functions.len());
}

#[test]
fn every_exported_symbol_is_one_that_the_scan_sees() {
    for source in sources() {
        let symbols = source.matches("#[unsafe(no_mangle)]").count();
        assert_eq!(symbols, exported(&source).len());
    }
}

#[test]
fn the_header_declares_every_exported_function() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/majordomo.h");
    let header = fs::read_to_string(header).unwrap_or_default();
    for (name, _) in sources().iter().flat_map(|source| exported(source)) {
        assert!(header.contains(&format!("{name}(")), "{name} is not in include/majordomo.h");
    }
}

/// The names of the pointer parameters of each function that the header declares.
fn pointer_parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let code: String = header.split("/*").map(|text| text.split_once("*/").map_or(text, |(_, code)| code)).collect();
    for declaration in code.split(';') {
        let Some((head, parameters)) = declaration.rsplit_once('(') else { continue };
        if head.contains("typedef") {
            continue;
        }
        let Some(parameters) = parameters.strip_suffix(')') else { continue };
        let name = head.rsplit([' ', '*', '\n']).next().unwrap_or_default();
        for parameter in parameters.split(',').filter(|parameter| parameter.contains('*')) {
            let parameter = parameter.rsplit([' ', '*']).next().unwrap_or_default();
            found.push((name.to_owned(), parameter.to_owned()));
        }
    }
    found
}

#[test]
fn every_pointer_parameter_has_a_test_with_null() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = fs::read_to_string(folder.join("../include/majordomo.h")).unwrap_or_default();
    let tests = fs::read_to_string(folder.join("tests/c/test_null.c")).unwrap_or_default();
    let parameters = pointer_parameters(&header);
    assert!(parameters.len() > 120, "only {} pointer parameters found: the scan is blind", parameters.len());
    // `arg` is the caller's own, and may be NULL.
    for (function, parameter) in parameters.into_iter().filter(|(_, parameter)| parameter != "arg") {
        let case = format!(" ({function}, {parameter}, ");
        assert!(tests.contains(&case), "tests/c/test_null.c has no case for {parameter} of {function}");
    }
}

#[test]
fn every_exported_function_is_fuzzed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let targets = ["c_messages.rs", "c_handles.rs"].map(|name| fs::read_to_string(folder.join(name)));
    let words: String = targets.into_iter().flatten().collect();
    let words: Vec<&str> = words.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let functions = sources().iter().flat_map(|source| exported(source)).map(|(name, _)| name).collect::<Vec<_>>();
    let forgotten: Vec<_> = functions.iter().filter(|name| !words.contains(&name.as_str())).collect();
    assert!(forgotten.is_empty(), "in no fuzz target: {forgotten:?}");
}
