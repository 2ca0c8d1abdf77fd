//! Every law, for every preset of this crate's codecs.

laws::conformance!();
