//! The list of codecs on the command line.

/// Splits at the commas outside parentheses and removes spaces around them. An empty list has no
/// specs.
pub fn split(list: &str) -> Vec<String> {
    let mut specs = vec![String::new()];
    let mut depth = 0u32;
    for c in list.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match specs.last_mut() {
            Some(spec) if c != ',' || depth > 0 => spec.push(c),
            _ => specs.push(String::new()),
        }
    }
    if list.is_empty() { Vec::new() } else { specs.iter().map(|spec| spec.trim().to_owned()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_parentheses_do_not_split() {
        assert_eq!(split("a"), ["a"]);
        assert_eq!(split("a:b=1,c(d,e(f,g)):h=2,i"), ["a:b=1", "c(d,e(f,g)):h=2", "i"]);
        assert_eq!(split("a, b "), ["a", "b"]);
        assert!(split("").is_empty());
    }

    #[test]
    fn mistakes_stay_for_the_grammar_to_report() {
        assert_eq!(split("a,"), ["a", ""]);
        assert_eq!(split("a),b"), ["a)", "b"]);
        assert_eq!(split("a(b,c"), ["a(b,c"]);
    }
}
