//! The codecs of the tree together: which are linked, what they support, and their golden files.

mod golden;
mod golden_files;
mod limits;
mod linked;
mod places;
mod stacks;
mod tiny;
