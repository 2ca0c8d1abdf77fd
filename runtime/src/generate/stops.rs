//! Strings that end a text.

/// Finds stop strings in a text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

impl Stops {
    /// Text ends before the first of these strings. Empty ones are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// Adds text. The result is the text that is certain, and whether a stop string follows it.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return (self.rest(), true);
        }
        // The earliest place from which the rest may become a stop string.
        let open = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let at = self.held.char_indices().map(|(at, _)| at).find(open).unwrap_or(self.held.len());
        let rest = self.held.split_off(at);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The text that was held back.
    pub fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_strings_are_found_across_pieces() {
        let mut stops = Stops::new(["\n\n".to_owned(), "END".to_owned(), String::new()]);
        assert_eq!(stops.push("a\n"), ("a".to_owned(), false));
        assert_eq!(stops.push("bE"), ("\nb".to_owned(), false));
        assert_eq!(stops.push("N"), (String::new(), false));
        assert_eq!(stops.push("d EN"), ("ENd ".to_owned(), false));
        assert_eq!(stops.push("Déf"), (String::new(), true));
        let mut stops = Stops::new(["é!".to_owned()]);
        assert_eq!(stops.push("caf\u{e9}"), ("caf".to_owned(), false));
        assert_eq!(stops.rest(), "é");
        assert_eq!(Stops::default().push("x"), ("x".to_owned(), false));
    }
}
