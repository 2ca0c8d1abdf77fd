//! Every law, for every preset of this crate's codec.

use codec_seedlm as _;

laws::conformance!();
