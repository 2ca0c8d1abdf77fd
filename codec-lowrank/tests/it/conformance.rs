//! Every law, for every preset of this crate's codec.

use codec_lossless as _;
use codec_lowrank as _;
use codec_quant as _;

laws::conformance!();
