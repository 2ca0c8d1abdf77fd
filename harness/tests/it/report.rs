//! Reports: every format says the same, and a worse run is found.

use std::io;

use codec_api::{Bytes, Dtype, Registry, TensorSpec};
use harness::matrix::{Earlier, Options, Row, Status, columns_for, run};
use harness::report::{
    Journal, Layout, ReadError, RunInfo, compare, read_jsonl, sort_by_column, summarise, write_cell_table, write_csv,
    write_file, write_jsonl, write_markdown, write_summary_table,
};
use harness::suite::{Item, Suite};
use serde_json::Value;

/// The interface: these keys, in this order.
const KEYS: [&str; 32] = [
    "suite",
    "tensor",
    "shape",
    "dtype",
    "codec",
    "preset",
    "calibrated",
    "status",
    "reason",
    "weights",
    "bytes",
    "header_bytes",
    "bits_per_weight",
    "ratio",
    "exact",
    "nmse",
    "relative_error",
    "mse",
    "max_abs_error",
    "snr_db",
    "shannon_gap_bits",
    "encode_mb_per_s",
    "decode_mb_per_s",
    "peak_scratch_bytes",
    "timing_runs",
    "threads",
    "seed",
    "commit",
    "cpu",
    "simd",
    "rustc",
    "tensor_hash",
];

fn suite() -> Suite {
    let floats = |name, shape, values| Item::from_f32(name, shape, values).unwrap();
    let ids = TensorSpec::new(Dtype::I64, [3]).unwrap();
    let items = vec![
        floats("a|b, \"c\"", &[2, 2], &[3.0, 4.0, 0.0, 0.0]),
        floats("zeros", &[3], &[0.0; 3]),
        floats("flat", &[2], &[12.0, 12.0]),
        Item::new("ids", ids, Bytes::from(vec![7; 24])),
    ];
    Suite::new("tiny", 0, items)
}

fn rows() -> Vec<Row> {
    let registry = Registry::linked().unwrap();
    let columns = columns_for(&registry, &["baseline.mean", "baseline.zeros"].map(str::to_owned)).unwrap();
    run(&suite(), &columns, &Options::new(&registry), &mut ())
}

fn text(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
    let mut buffer = Vec::new();
    write(&mut buffer).unwrap();
    String::from_utf8(buffer).unwrap()
}

#[test]
fn json_lines_have_exactly_the_keys_and_come_back() {
    let rows = rows();
    assert_eq!(rows.len(), 8);
    let lines = text(|out| write_jsonl(out, &rows));
    for line in lines.lines() {
        let Value::Object(object) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        assert_eq!(object.keys().collect::<Vec<_>>(), KEYS);
    }
    assert!(lines.contains(r#""status":"unsupported""#) && lines.contains(r#""bytes":null"#));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.jsonl");
    write_file(&path, |out| write_jsonl(out, &rows)).unwrap();
    let stored: Vec<_> = rows.into_iter().map(|row| Row { energy: None, ..row }).collect();
    assert_eq!(read_jsonl(&path).unwrap(), stored);

    // Earlier versions wrote other keys.
    let earlier = lines.replace("\"calibrated\":false,", "").replace("\"exact\":", "\"bound_value\":");
    std::fs::write(&path, earlier).unwrap();
    let read = read_jsonl(&path).unwrap();
    assert!(read.iter().all(|row| !row.calibrated && row.exact.is_none()) && read[0].bytes == stored[0].bytes);

    std::fs::write(&path, "\n{\"suite\":1}\n").unwrap();
    let message = read_jsonl(&path).unwrap_err().to_string();
    assert!(message.contains("rows.jsonl, line 2"), "{message}");
}

#[test]
fn a_journal_keeps_whole_lines() {
    let (rows, directory) = (rows(), tempfile::tempdir().unwrap());
    let path = directory.path().join("rows.jsonl");
    let mut journal = Journal::create(&path).unwrap();
    rows[..3].iter().for_each(|row| journal.push(row).unwrap());
    drop(journal);
    let three = std::fs::read(&path).unwrap();
    assert_eq!(three, text(|out| write_jsonl(out, &rows[..3])).as_bytes());
    // Every torn fourth line is skipped, and replaced when the run goes on.
    let fourth = text(|out| write_jsonl(out, &rows[3..4]));
    for length in [1, 20, fourth.len() - 2] {
        std::fs::write(&path, [&three, &fourth.as_bytes()[..length]].concat()).unwrap();
        assert_eq!(read_jsonl(&path).unwrap().len(), 3);
        let (mut journal, kept) = Journal::resume(&path, Ok::<_, ReadError>).unwrap();
        journal.push(&rows[3]).unwrap();
        assert_eq!(kept.len(), 3);
        assert_eq!(std::fs::read(&path).unwrap(), text(|out| write_jsonl(out, &rows[..4])).as_bytes());
    }
    // A torn line in the middle is an error.
    std::fs::write(&path, [&three[..40], b"\n", &three].concat()).unwrap();
    assert!(read_jsonl(&path).unwrap_err().to_string().contains("line 1"));
}

#[test]
fn a_run_goes_on_only_with_its_own_rows() {
    let registry = Registry::linked().unwrap();
    let columns = columns_for(&registry, &["baseline.mean", "baseline.zeros"].map(str::to_owned)).unwrap();
    let (suite, options, all) = (suite(), Options::new(&registry), rows());
    let stored = |rows: &[Row]| rows.iter().map(|row| Row { energy: None, ..row.clone() }).collect::<Vec<_>>();
    let earlier = Earlier::new(stored(&all[..5]), &suite, &columns, &options).unwrap();
    let again = run(&suite, &columns, &options.clone().earlier(&earlier), &mut ());
    assert_eq!(again[..5], all[..5], "with ‖w‖², which reports do not have");
    assert_eq!(stored(&again).len(), all.len());
    assert_eq!(summarise(&again)[0].nmse, summarise(&all)[0].nmse);

    let mut foreign = stored(&all[..1]);
    foreign[0].simd = "abacus".to_owned();
    let error = Earlier::new(foreign, &suite, &columns, &options).unwrap_err();
    assert!(error.what == "simd" && error.earlier == "abacus", "{error}");
    let mut foreign = stored(&all[..1]);
    foreign[0].tensor_hash = Some("0".to_owned());
    assert!(Earlier::new(foreign, &suite, &columns, &options).unwrap_err().to_string().contains("hash of tensor"));
}

#[test]
fn csv_has_the_keys_and_the_same_cells() {
    let rows = rows();
    let text = text(|out| write_csv(out, &rows));
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(csv.headers().unwrap(), KEYS.as_slice());
    let records: Vec<_> = csv.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(records.len(), rows.len());
    for (record, row) in records.iter().zip(&rows) {
        assert_eq!((&record[1], &record[4]), (row.tensor.as_str(), row.codec.as_str()));
        assert_eq!(record[10].parse().ok(), row.bytes);
        assert_eq!(record[15].parse().ok(), row.nmse);
    }
    assert_eq!(&records[0][2], "2x2");
}

#[test]
fn the_summary_pools_over_the_weights_it_covers() {
    let summaries = summarise(&rows());
    let [mean, zeros] = &summaries[..] else { panic!("{summaries:?}") };
    // mean: group means are 1.75, 0 and 12; ‖w‖² = 25 + 0 + 288, ‖w − ŵ‖² = 25 − 4·1.75².
    assert_eq!((mean.ok, mean.unsupported, mean.failed), (3, 1, 0));
    assert_eq!((mean.weights, mean.coverage), (9, 0.75));
    assert_eq!((mean.bytes, mean.bits_per_weight, mean.ratio), (12, Some(96.0 / 9.0), Some(3.0)));
    assert_eq!(mean.nmse, Some((25.0 - 4.0 * 1.75 * 1.75) / 313.0));
    // The 4 is off by 2.25.
    assert_eq!((mean.max_abs_error, mean.calibrated), (Some(2.25), 0));
    assert_eq!(mean.mse, Some((25.0 - 4.0 * 1.75 * 1.75) / 9.0));
    assert!(mean.encode_mb_per_s.unwrap() > 0.0);
    assert_eq!(zeros.max_abs_error, Some(12.0));
    assert_eq!((zeros.nmse, zeros.ratio, zeros.shannon_gap_bits), (Some(1.0), None, None));
}

#[test]
fn a_calibrated_codec_says_so() {
    let (mut rows, info) = (rows(), RunInfo::measure(&suite(), None));
    let shown = |rows: &[Row]| {
        let table = |layout| text(|out| write_summary_table(out, &info, &summarise(rows), layout));
        let cells = text(|out| write_cell_table(out, rows, Layout::Wide));
        [table(Layout::Wide), table(Layout::Narrow(None)), cells].map(|table| table.matches("calibrated)").count())
    };
    assert_eq!(shown(&rows), [0, 0, 0]);
    // One of the three tensors that `baseline.mean` supports.
    rows[0].calibrated = true;
    assert_eq!(shown(&rows), [1, 1, 1]);
    let summary = text(|out| write_summary_table(out, &info, &summarise(&rows), Layout::Wide));
    assert!(summary.contains("baseline.mean:preset=default (1 of 3 calibrated)"), "{summary}");
    for row in &mut rows {
        row.calibrated = true;
    }
    let summary = text(|out| write_summary_table(out, &info, &summarise(&rows), Layout::Narrow(None)));
    assert!(summary.contains("baseline.zeros (calibrated)"), "{summary}");
}

#[test]
fn failed_cells_are_not_in_the_summary() {
    let mut rows = rows();
    for row in rows.iter_mut().filter(|row| row.tensor == "flat") {
        row.status = Status::Failed;
    }
    let mean = summarise(&rows).remove(0);
    assert_eq!((mean.ok, mean.unsupported, mean.failed, mean.weights), (2, 1, 1, 7));
    assert_eq!(mean.nmse, Some((25.0 - 4.0 * 1.75 * 1.75) / 25.0));
}

#[test]
fn markdown_escapes_and_every_row_has_every_column() {
    let (rows, info) = (rows(), RunInfo::measure(&suite(), Some("c0ffee")));
    let text = text(|out| write_markdown(out, &info, &summarise(&rows), &rows));
    let head = text.lines().next().unwrap();
    for part in ["suite tiny", "seed 0", "commit c0ffee", "memcpy ", " MB/s", "rustc 1.", "simd ", "cpu ", "load "] {
        assert!(head.contains(part), "{head}");
    }
    assert!(text.contains(r"a\|b"), "{text}");
    let bars = |line: &str| line.replace(r"\|", "").matches('|').count();
    for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
        let lines: Vec<_> = table.lines().collect();
        assert!(lines.iter().all(|line| bars(line) == bars(lines[0])), "{table}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with('|')).count(), 2 + 2 + 2 + 8);
}

#[test]
fn wide_tables_show_every_error_and_the_scratch() {
    let (mut rows, info) = (rows(), RunInfo::measure(&suite(), None));
    for row in &mut rows {
        row.peak_scratch_bytes = Some(1536);
    }
    let markdown = text(|out| write_markdown(out, &info, &summarise(&rows), &rows));
    let terminal = text(|out| write_summary_table(out, &info, &summarise(&rows), Layout::Wide));
    let cells = text(|out| write_cell_table(out, &rows, Layout::Wide));
    // Markdown has a backslash before a bar.
    for (table, times) in [(&markdown.replace('\\', ""), 2), (&terminal, 1), (&cells, 1)] {
        for title in ["rel. error", "max |err|", " NMSE ", " MSE ", "scratch KiB"] {
            assert_eq!(table.matches(title).count(), times, "{title}: {table}");
        }
    }
    // Two codecs and eight cells.
    assert_eq!(markdown.matches("| 1.5 |").count(), 10, "{markdown}");
}

#[test]
fn notes_cannot_reach_the_terminal() {
    let mut suite = suite();
    suite.notes.push("no base for `w\u{1b}[31m\u{9b}\n`".to_owned());
    let info = RunInfo::measure(&suite, None);
    let summary = text(|out| write_summary_table(out, &info, &[], Layout::Narrow(Some(20))));
    assert!(summary.contains("note: no base for `w\\u{1b}[31m\\u{9b}\\u{a}`\n"), "{summary}");
}

#[test]
fn terminal_tables_show_each_codec_and_each_cell() {
    let (rows, info) = (rows(), RunInfo::measure(&suite(), None));
    for layout in [Layout::Narrow(None), Layout::Wide] {
        let summary = text(|out| write_summary_table(out, &info, &summarise(&rows), layout));
        assert!(summary.contains("baseline.mean:preset=default") && summary.contains("75.0 %"), "{summary}");
    }
    let cells = text(|out| write_cell_table(out, &rows, Layout::Wide));
    assert_eq!(cells.matches("unsupported: ").count(), 2, "{cells}");
    let cells = text(|out| write_cell_table(out, &rows, Layout::Narrow(None)));
    assert_eq!(cells.matches("unsup.").count(), 2, "{cells}");
}

#[test]
fn narrow_tables_fit_their_width() {
    let mut rows = rows();
    rows[0].status = Status::Failed;
    for row in &mut rows {
        (row.preset, row.codec) = (None, format!("{}:long=value:longer=value:longest=value", row.codec));
    }
    let info = RunInfo::measure(&suite(), None);
    for width in [80, 120] {
        let layout = Layout::Narrow(Some(width));
        let summary = text(|out| write_summary_table(out, &info, &summarise(&rows), layout));
        let cells = text(|out| write_cell_table(out, &rows, layout));
        for line in summary.lines().chain(cells.lines()) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        assert!(summary.contains("8 cells: 5 ok, 2 unsupported, 1 failed\n"), "{summary}");
        assert!(summary.contains("\nbaseline.zeros:") && cells.contains("failed\n"), "{summary}{cells}");
    }
}

#[test]
fn any_column_sorts_and_a_wrong_one_lists_them() {
    let mut rows = rows();
    for key in KEYS {
        sort_by_column(&mut rows, key).unwrap();
    }
    sort_by_column(&mut rows, "bytes").unwrap();
    let bytes: Vec<_> = rows.iter().map(|row| row.bytes).collect();
    assert_eq!(bytes, [Some(0), Some(0), Some(0), Some(4), Some(4), Some(4), None, None]);
    sort_by_column(&mut rows, "shape").unwrap();
    assert!(rows.is_sorted_by(|a, b| a.shape <= b.shape));
    let message = sort_by_column(&mut rows, "size").unwrap_err().to_string();
    assert!(message.contains("`size`") && KEYS.iter().all(|key| message.contains(key)), "{message}");
    let mut summaries = summarise(&rows);
    sort_by_column(&mut summaries, "nmse").unwrap();
    assert_eq!(summaries[0].codec, "baseline.mean:group=64");
}

type Edit = fn(&mut Row);

#[test]
fn compare_finds_what_got_worse_and_what_got_better() {
    let old = rows();
    assert_eq!(compare(&old, &old).regressions, []);
    assert_eq!(compare(&old, &old).compared, 8);

    let mut new = old.clone();
    let at = new.iter().position(|row| row.bytes == Some(4) && row.nmse > Some(0.0)).unwrap();
    let columns = |changes: &[harness::report::Change]| changes.iter().map(|c| c.column).collect::<Vec<_>>();
    let mut change = |edit: Edit| {
        new[at] = old[at].clone();
        edit(&mut new[at]);
        (compare(&old, &new), compare(&new, &old))
    };
    let cases: [(&str, Edit); 5] = [
        ("status", |row| row.status = Status::Failed),
        ("bytes", |row| row.bytes = row.bytes.map(|b| b + 1)),
        ("header_bytes", |row| row.header_bytes = row.header_bytes.map(|b| b + 72)),
        ("nmse", |row| row.nmse = row.nmse.map(|e| e * 1.002)),
        ("nmse", |row| row.nmse = None),
    ];
    for (column, edit) in cases {
        let (worse, better) = change(edit);
        assert_eq!((columns(&worse.regressions), columns(&worse.improvements)), (vec![column], vec![]));
        assert_eq!((columns(&better.regressions), columns(&better.improvements)), (vec![], vec![column]));
        assert!(worse.to_string().contains("1 regressions") && worse.to_string().contains(column), "{worse}");
    }
    let harmless: [Edit; 3] = [
        |row| row.nmse = row.nmse.map(|e| e * 1.0005),
        |row| row.header_bytes = row.header_bytes.map(|b| b + 8),
        |row| row.encode_mb_per_s = Some(1e-3),
    ];
    for edit in harmless {
        assert_eq!(change(edit).0.regressions, []);
    }
    // An earlier run is a file, and its names are anybody's.
    let (named, _) = change(|row| row.tensor = "a\u{1b}[2J\nregressions:".to_owned());
    assert!(named.to_string().contains("a\\u{1b}[2J\\u{a}regressions:"), "{named}");
    let others: [Edit; 2] = [|row| row.seed = 1, |row| row.calibrated = true];
    for edit in others {
        let (other, _) = change(edit);
        assert_eq!((other.compared, other.only_old.len(), other.only_new.len()), (7, 1, 1));
    }
}

#[test]
fn files_are_replaced_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.md");
    write_file(&path, |out| out.write_all(b"first")).unwrap();
    let error = write_file(&path, |out| {
        out.write_all(b"second")?;
        Err(io::Error::other("the disk is full"))
    });
    assert!(error.unwrap_err().to_string().contains("report.md"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing is left behind");
    assert!(write_file(&directory.path().join("none/x"), |_| Ok(())).is_err());
}
