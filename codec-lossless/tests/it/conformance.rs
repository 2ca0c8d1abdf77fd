//! Every law, for every preset of this crate's codecs.

use codec_lossless as _;

laws::conformance!();
