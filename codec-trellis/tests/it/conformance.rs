//! Every law, for every preset of this crate's codecs.

use codec_trellis as _;

laws::conformance!();
