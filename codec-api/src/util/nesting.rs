//! The depth of JSON texts.

/// Whether objects and arrays of a JSON text are nested deeper than `limit`. Brackets outside
/// strings are counted; the text need not be valid. Readers that call themselves for each level
/// need such a limit on texts from files.
pub fn is_nested_deeper(json: &str, limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    json.bytes().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > limit
    })
}
