//! The macro that other crates use, over small codecs that keep every law.

laws::conformance!();

#[test]
fn support_table_shows_what_is_taken() {
    let linked = codec_api::Registry::linked().expect("the codecs above");
    let ids = ["test.negate", "test.raw", "test.truncate"];
    let few = linked.entries().copied().filter(|entry| ids.contains(&entry.id));
    let registry = codec_api::Registry::from_entries(few).expect("three codecs");
    let floats_only = "  -    -    -    -    -     BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ \
                       F8_E5M2FNUZ I16 U16 I32 U32 C64 F64 I64 U64
  ok   ok   ok   ok   ok    F16 BF16 F32
";
    // One 4-bit or 6-bit element is no whole byte.
    let everything = "  ok   ok   ok   ok   ok    BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 \
                      F16 BF16 I32 U32 F32 C64 F64 I64 U64
  -    ok   ok   ok   ok    F4 F6_E2M3 F6_E3M2
";
    let wanted = format!(
        "test.negate:truncate\n{floats_only}test.negate:twice\n{floats_only}test.raw:default\n{everything}\
         test.truncate:default\n{floats_only}"
    );
    assert_eq!(laws::support::table(&registry), wanted);
}
