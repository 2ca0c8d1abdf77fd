//! Every law, for every preset of this crate's codecs.

use codec_compose as _;
use codec_lossless as _;
use codec_lowrank as _;
use codec_quant as _;
use codec_sparse as _;

laws::conformance!();
