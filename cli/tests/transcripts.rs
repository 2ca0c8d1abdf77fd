//! What the program prints, word for word: `tests/cmd`. Parts that change with the machine or with codecs that join
//! are left out there with `[..]` and `...`.

#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}
