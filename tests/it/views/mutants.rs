//! Checks that each mistake planted by `make mutants` still has its place in the source.

use std::{fs, path::Path};

#[test]
fn every_mistake_to_plant_has_one_place_and_tests_that_find_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mutants = fs::read_to_string(root.join("tests/mutants/mutants.toml")).unwrap();
    let mutants: toml::Table = mutants.parse().unwrap();
    let mutants = mutants["mutant"].as_array().unwrap();
    for room in ["views::", "access::decision"] {
        let red = mutants.iter().filter(|mutant| mutant["red"].as_str().unwrap().contains(room));
        assert!(red.count() >= 20, "{room}");
    }
    for mutant in mutants {
        let text = |member: &str| mutant[member].as_str().unwrap();
        let source = fs::read_to_string(root.join(text("file"))).unwrap();
        assert_eq!(source.matches(text("find")).count(), 1, "{}: {}", text("name"), text("find"));
        assert!(text("find") != text("replace") && !text("red").is_empty(), "{}", text("name"));
    }
}
