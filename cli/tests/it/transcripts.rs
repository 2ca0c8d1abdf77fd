//! Exact output of the program: `tests/cmd`. `[..]` and `...` in the transcripts stand for parts
//! that depend on the machine or on the list of codecs.

#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}
