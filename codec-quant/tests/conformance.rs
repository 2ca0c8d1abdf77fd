//! Every law, for every preset of this crate's codecs.

use codec_quant as _;

laws::conformance!();
