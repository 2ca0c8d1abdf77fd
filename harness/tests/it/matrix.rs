//! The matrix: every value of a cell that can be computed by hand, and every way a cell can fail.

use codec_api::util::widen;
use codec_api::{
    Bytes, Cancel, Certificate, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, EncodedTensor,
    FormatVersion, InputAxis, Lossless, Need, Needs, Payload, PayloadView, Preset, Registry, Result, Section,
    TensorSpec, TensorView, register_codec, typetag,
};
use harness::matrix::{Observer, Options, Row, Status, columns_for, run};
use harness::suite::{Item, MeanSquares, Suite, SuiteOptions};
use serde::{Deserialize, Serialize};

/// The fault of the test codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    #[default]
    None,
    /// Changes the first value by 0.5.
    WrongValue,
    /// The same, and states that it measured no error.
    WrongMeasure,
    /// States that the result is exact, though the codec is not lossless.
    ClaimsExact,
    /// Leaves the output buffer unchanged.
    LeavesOneOut,
    /// A lossless codec that changes a bit.
    WrongBit,
    /// The same, and states that the result is exact.
    HiddenBit,
    /// Writes one byte more than its cost states.
    ExtraByte,
    EncodePanics,
    DecodeFails,
    NeedsBase,
    /// Works only with calibration.
    NeedsCalibration,
    /// Stores its calibration instead of the values, if it has some.
    UsesCalibration,
    Unsuitable,
}

/// Stores f32 values unchanged; with `lossless`, other dtypes too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Store {
    version: FormatVersion<1>,
    fault: Fault,
    lossless: bool,
}

#[typetag::serde(name = "test.store")]
impl Codec for Store {
    fn needs(&self) -> Needs {
        match self.fault {
            Fault::NeedsBase => Needs::default().base(Need::Requires),
            Fault::NeedsCalibration => Needs::default().calibration(Need::Requires),
            Fault::UsesCalibration => Needs::default().calibration(Need::Uses),
            _ => Needs::default(),
        }
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        if self.lossless { Ok(()) } else { spec.require_float() }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.byte_len() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        match self.fault {
            Fault::EncodePanics => panic!("a bug on line {}", line!()),
            Fault::Unsuitable => {
                return Err(CodecError::Unsuitable { reason: "rank above break-even".to_owned(), number: 9.0 });
            }
            _ => {}
        }
        let mut bytes = tensor.bytes().to_vec();
        bytes.extend((self.fault == Fault::ExtraByte).then_some(0));
        if let Some(calibration) = cx.calibration_of(tensor.spec())? {
            bytes = calibration.mean_squares.iter().flat_map(|square| square.to_le_bytes()).collect();
        }
        let payload = Payload::new().with("bytes", Section::from_bytes(bytes)?)?;
        let source = if self.lossless { Vec::new() } else { tensor.to_finite_f32()?.into_owned() };
        let measured = Certificate::measure(&source, &source);
        Ok(match self.fault {
            Fault::WrongMeasure => payload.with_measured(measured),
            Fault::ClaimsExact | Fault::HiddenBit => payload.with_measured(Certificate::exact(measured.energy)),
            _ => payload,
        })
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let bytes = payload.bytes("bytes", Dtype::U8, &[spec.byte_len()])?;
        if self.fault == Fault::DecodeFails {
            return Err(payload.corrupt("bytes", "says the test"));
        }
        let first = out.first().copied();
        widen(spec.dtype(), bytes, out)?;
        if let (Fault::LeavesOneOut, Some(first)) = (self.fault, first) {
            out[0] = first;
        }
        if matches!(self.fault, Fault::WrongValue | Fault::WrongMeasure) {
            out[0] += 0.5;
        }
        Ok(())
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        self.lossless.then_some(self)
    }
}

impl Lossless for Store {
    fn decode_bytes(&self, _: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(payload.bytes("bytes", Dtype::U8, &[out.len()])?);
        if matches!(self.fault, Fault::WrongBit | Fault::HiddenBit) {
            out[1] ^= 1;
        }
        Ok(())
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Store::default())]
}
register_codec!("test.store", "values as they are, or not", presets);

fn item(name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Item {
    Item::new(name, TensorSpec::new(dtype, shape).unwrap(), Bytes::from(data))
}

fn floats(name: &str, values: &[f32]) -> Item {
    Item::from_f32(name, &[values.len()], values).unwrap()
}

/// The rows of all items through one codec.
fn rows_of(spec: &str, items: Vec<Item>) -> Vec<Row> {
    rows_with(spec, items, false)
}

fn rows_with(spec: &str, items: Vec<Item>, calibrated: bool) -> Vec<Row> {
    let registry = Registry::linked().unwrap();
    let columns = columns_for(&registry, &[spec.to_owned()]).unwrap();
    let options = Options::new(&registry).calibrated(calibrated);
    run(&Suite::new("test", 5, items), &columns, &options, &mut ())
}

fn row_of(spec: &str, item: Item) -> Row {
    rows_of(spec, vec![item]).remove(0)
}

#[test]
fn every_figure_of_a_lossy_cell_is_right() {
    let row = row_of("baseline.mean", floats("w", &[3.0, 4.0]));
    assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
    assert_eq!((row.suite.as_str(), row.tensor.as_str(), &row.shape[..]), ("test", "w", &[2][..]));
    assert_eq!((row.codec.as_str(), row.preset.as_deref()), ("baseline.mean:group=64", Some("default")));
    assert_eq!((row.weights, row.bytes, row.bits_per_weight, row.ratio), (2, Some(4), Some(16.0), Some(2.0)));
    // The mean 3.5 is off by 0.5 for both values; ‖w‖² = 25.
    assert_eq!((row.nmse, row.mse, row.max_abs_error), (Some(0.02), Some(0.25), Some(0.5)));
    assert_eq!(row.relative_error, Some(0.02f64.sqrt()));
    assert_eq!((row.exact, row.calibrated), (Some(false), false));
    assert!((row.snr_db.unwrap() - 16.989_700).abs() < 1e-6);
    assert!((row.shannon_gap_bits.unwrap() - (16.0 - 0.5 * 50f64.log2())).abs() < 1e-12);
    assert!(row.encode_mb_per_s.unwrap() > 0.0 && row.decode_mb_per_s.unwrap() > 0.0);
    assert!((3..=15).contains(&row.timing_runs.unwrap()));
    assert_eq!((row.threads, row.seed), (1, 5));
    assert!(row.peak_scratch_bytes.unwrap() < 4096);
    assert!(row.header_bytes.unwrap() > 100, "spec, codec and certificate are in the file");
    assert!(row.rustc.unwrap().starts_with("1."));
}

#[test]
fn zeros_cost_nothing_and_keep_nothing() {
    let row = row_of("baseline.zeros", floats("w", &[3.0, -4.0]));
    assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
    assert_eq!((row.bytes, row.bits_per_weight, row.ratio), (Some(0), Some(0.0), None));
    assert_eq!((row.nmse, row.mse, row.max_abs_error), (Some(1.0), Some(12.5), Some(4.0)));
    assert_eq!((row.snr_db, row.shannon_gap_bits), (Some(0.0), None));
    let zero = row_of("baseline.zeros", floats("w", &[0.0; 3]));
    assert_eq!((zero.status, zero.nmse, zero.snr_db), (Status::Ok, Some(0.0), None));
}

/// The errors are those of the tensor that a user gets back, rounded to its dtype.
#[test]
fn errors_and_certificate_are_those_of_the_stored_bytes() {
    let registry = Registry::linked().unwrap();
    for dtype in ["bf16", "f16"] {
        let item = Suite::parse(&format!("gaussian:16x60:{dtype}"), &SuiteOptions::default()).unwrap().items.remove(0);
        let source = item.to_f32().unwrap();
        let codec = registry.parse_spec("baseline.mean:group=8").unwrap();
        let encoded = EncodedTensor::encode(codec, item.view().unwrap(), &EncodeCx::new(0)).unwrap();
        let (mut bytes, mut values) = (vec![0; item.data.len()], vec![0.0; source.len()]);
        encoded.decode_stored(&DecodeCx::new(), &mut bytes).unwrap();
        widen(item.spec.dtype(), &bytes, &mut values).unwrap();
        let (stored, stated) = (Certificate::measure(&source, &values), encoded.certificate);
        assert_eq!((stated.exact, stated.max_abs), (false, stored.max_abs), "{dtype}");
        let close = |a: f64, b: f64| (a - b).abs() <= Certificate::TOLERANCE * b;
        assert!(close(stated.squared_error, stored.squared_error) && close(stated.energy, stored.energy), "{dtype}");
        let unrounded = Certificate::measure(&source, &encoded.decode(&DecodeCx::new()).unwrap());
        assert_ne!(stored.max_abs, unrounded.max_abs, "{dtype}: rounding changes the error");

        let row = row_of("baseline.mean:group=8", item);
        assert_eq!((row.status, row.max_abs_error), (Status::Ok, Some(stored.max_abs)), "{dtype}: {:?}", row.reason);
        assert!(close(row.nmse.unwrap(), stored.nmse()) && close(row.energy.unwrap(), stored.energy), "{dtype}");
    }
}

#[test]
fn exact_codecs_keep_every_dtype_bit_for_bit() {
    let nan = floats("nan", &[f32::from_bits(0x7fa0_0001), f32::INFINITY, -0.0]);
    let items = vec![
        item("ids", Dtype::I64, &[2], (0..16).collect()),
        item("half", Dtype::BF16, &[1, 2], vec![0, 1, 2, 3]),
        nan,
        item("empty", Dtype::F32, &[0, 4], Vec::new()),
        item("scalar", Dtype::F64, &[], vec![1; 8]),
    ];
    for row in rows_of("test.store:lossless=true", items) {
        assert_eq!(row.status, Status::Ok, "{}: {:?}", row.tensor, row.reason);
        assert_eq!(row.exact, Some(true));
        assert_eq!((row.nmse, row.mse, row.max_abs_error), (Some(0.0), Some(0.0), Some(0.0)));
        assert_eq!((row.snr_db, row.shannon_gap_bits), (None, None));
        let empty = row.weights == 0;
        assert_eq!(row.ratio, (!empty).then_some(1.0));
        assert_eq!(row.bits_per_weight.is_none(), empty);
    }
}

#[test]
fn refusals_are_unsupported_with_their_reason() {
    let cases = [
        ("baseline.mean", item("ids", Dtype::I64, &[1], vec![0; 8]), "I64"),
        ("baseline.mean", floats("nan", &[1.0, f32::NAN]), "index 1"),
        ("test.store:fault=needs_base", floats("w", &[1.0]), "base"),
        ("test.store:fault=needs_calibration", floats("w", &[1.0]), "calibration"),
        ("test.store:fault=unsuitable", floats("w", &[1.0]), "break-even"),
        ("test.store:fault=wrong_value", floats("w", &[0.25]), "zeros would be as near"),
    ];
    for (spec, item, reason) in cases {
        let row = row_of(spec, item);
        assert_eq!(row.status, Status::Unsupported, "{spec}: {:?}", row.reason);
        assert!(row.reason.as_ref().unwrap().contains(reason), "{:?}", row.reason);
        assert_eq!((row.bytes, row.nmse, row.encode_mb_per_s, row.timing_runs), (None, None, None, None));
    }
}

#[test]
fn broken_codecs_fail_with_their_reason() {
    let cases = [
        ("test.store:fault=wrong_measure", "certificate does not hold"),
        ("test.store:fault=claims_exact", "certificate does not hold"),
        ("test.store:fault=leaves_one_out", "certificate does not hold"),
        ("test.store:fault=wrong_bit:lossless=true", "does not decode to the bytes"),
        ("test.store:fault=hidden_bit:lossless=true", "byte 1 differs"),
        ("test.store:fault=extra_byte", "9 bytes; the codec's cost says 8 to 8"),
        ("test.store:fault=encode_panics", "panic: a bug on line"),
        ("test.store:fault=decode_fails", "says the test"),
    ];
    for (spec, reason) in cases {
        let row = row_of(spec, floats("w", &[1.0, 2.0]));
        assert_eq!(row.status, Status::Failed, "{spec}");
        assert!(row.reason.as_ref().unwrap().contains(reason), "{spec}: {:?}", row.reason);
        assert_eq!(row.encode_mb_per_s, None, "{spec}");
    }
    let lied = row_of("test.store:fault=wrong_measure", floats("w", &[1.0, 2.0]));
    assert_eq!((lied.exact, lied.max_abs_error), (Some(false), Some(0.5)), "what was measured stays");
}

/// With calibration, the codecs store it instead of the values.
#[test]
fn calibration_goes_to_codecs_that_need_it_and_on_demand_to_those_that_use_it() {
    let mut with = floats("with", &[1.0, 3.0]);
    with.calibration = Some(MeanSquares { axis: InputAxis::Columns, squares: vec![1.5, 3.0] });
    let items = || vec![with.clone(), floats("without", &[1.0, 3.0])];
    let found = |fault: &str, calibrated| {
        let rows = rows_with(&format!("test.store:fault={fault}"), items(), calibrated);
        rows.into_iter().map(|row| (row.status, row.calibrated, row.max_abs_error)).collect::<Vec<_>>()
    };
    let (given, plain) = ((Status::Ok, true, Some(0.5)), (Status::Ok, false, Some(0.0)));
    assert_eq!(found("none", true), [plain, plain]);
    assert_eq!(found("uses_calibration", false), [plain, plain]);
    assert_eq!(found("uses_calibration", true), [given, plain]);
    let refused = (Status::Unsupported, false, None);
    for calibrated in [false, true] {
        assert_eq!(found("needs_calibration", calibrated), [given, refused]);
    }
    with.calibration = Some(MeanSquares { axis: InputAxis::Columns, squares: vec![1.5] });
    let wrong = rows_with("test.store:fault=needs_calibration", vec![with.clone()], false).remove(0);
    assert_eq!(wrong.status, Status::Failed);
    assert!(wrong.reason.as_ref().unwrap().contains("calibration of 1 inputs"), "{:?}", wrong.reason);
}

#[test]
fn a_bad_item_fails_and_the_run_goes_on() {
    let mut bad = floats("bad", &[1.0, 2.0]);
    bad.data = bad.data.slice(1..);
    let rows = rows_of("baseline.zeros", vec![bad, floats("good", &[1.0])]);
    assert_eq!(rows.iter().map(|row| row.status).collect::<Vec<_>>(), [Status::Failed, Status::Ok]);
}

#[test]
fn columns_are_all_presets_or_the_specs() {
    let registry = Registry::linked().unwrap();
    let all = columns_for(&registry, &[]).unwrap();
    let specs: Vec<_> = all.iter().map(|column| column.spec.split(':').next().unwrap()).collect();
    assert_eq!(specs, ["baseline.mean", "baseline.zeros", "test.store"]);
    assert!(all.iter().all(|column| column.preset.is_some()));

    let texts = ["baseline.mean:group=64", "baseline.mean", "baseline.mean:group=32"].map(str::to_owned);
    let some = columns_for(&registry, &texts).unwrap();
    let found: Vec<_> = some.iter().map(|column| (column.spec.as_str(), column.preset.as_deref())).collect();
    assert_eq!(found, [("baseline.mean:group=64", Some("default")), ("baseline.mean:group=32", None)]);

    let message = columns_for(&registry, &["baseline.median".to_owned()]).unwrap_err().to_string();
    assert!(message.contains("baseline.mean"), "{message}");
}

#[derive(Default)]
struct Log<'a> {
    lines: Vec<String>,
    cancel: Option<&'a Cancel>,
}

impl Observer for Log<'_> {
    fn start(&mut self, cells: usize) {
        self.lines.push(format!("{cells} cells"));
    }
    fn begin(&mut self, tensor: &str, codec: &str) {
        self.lines.push(format!("{tensor} {codec}"));
    }
    fn finish(&mut self, row: &Row) {
        self.lines.push(row.status.to_string());
        self.cancel.inspect(|cancel| cancel.cancel());
    }
}

#[test]
fn cancel_and_observer_work_together() {
    let registry = Registry::linked().unwrap();
    let columns = columns_for(&registry, &["baseline.zeros".to_owned()]).unwrap();
    let suite = Suite::new("test", 0, ["a.1", "a.2"].map(|name| floats(name, &[1.0])).to_vec());
    let cancel = Cancel::new();
    let options = Options::new(&registry).cancel(&cancel).commit("c0ffee");

    let mut log = Log::default();
    let rows = run(&suite, &columns, &options, &mut log);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].commit.as_deref(), Some("c0ffee"));
    assert_eq!(log.lines, ["2 cells", "a.1 baseline.zeros", "ok", "a.2 baseline.zeros", "ok"]);

    let mut log = Log { cancel: Some(&cancel), ..Log::default() };
    assert_eq!(run(&suite, &columns, &options, &mut log).len(), 1);
    assert_eq!(log.lines.last().unwrap(), "a.2 baseline.zeros");
}
