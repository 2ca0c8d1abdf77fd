//! Trellis-coded quantisation: a weight is quantised together with those after it.
