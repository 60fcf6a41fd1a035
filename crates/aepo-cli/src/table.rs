//! How are numbers put into columns, and a series into one line?

/// Rows under a header; the first column is flush left, the others flush right, two spaces between.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).enumerate();
        let padded = cells.map(|(i, (cell, &width))| match i {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let text = padded.collect::<Vec<_>>().join("  ");
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A number of bytes for people: `512 B`, `1.5 GiB`.
pub fn bytes(n: u64) -> String {
    let scale = [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(shift, _)| n >> shift > 0);
    match scale {
        Some((shift, unit)) => format!("{:.1} {unit}", n as f64 / (1u64 << shift) as f64),
        None => format!("{n} B"),
    }
}

/// A series as one line of at most `width` blocks between its least and its greatest value; each block is the mean of
/// its part of the series.
pub fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let n = values.len().min(width);
    let part = |i: usize| {
        let part = &values[i * values.len() / n..(i + 1) * values.len() / n];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..n).map(part).collect();
    let finite = || means.iter().copied().filter(|m| m.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let block = |mean: &f64| match (mean.is_finite(), high > low) {
        (false, _) => ' ',
        (true, false) => BLOCKS[0],
        (true, true) => BLOCKS[((mean - low) / (high - low) * 7.0).round() as usize],
    };
    means.iter().map(block).collect()
}

/// `41.2 %`
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `4:05`
pub fn minutes(secs: f64) -> String {
    let secs = secs.max(0.0).round() as u64;
    match secs / 3600 {
        0 => format!("{}:{:02}", secs / 60, secs % 60),
        hours => format!("{hours}:{:02}:{:02}", secs / 60 % 60, secs % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let text = table(&["step", "loss"], &[vec!["1".into(), "0.5".into()], vec!["20".into(), "12.25".into()]]);
        assert_eq!(text, "step   loss\n1       0.5\n20    12.25\n");
    }

    #[test]
    fn series_become_blocks() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 7.0], 10), "▁▂▃█");
        assert_eq!(sparkline(&[0.0, 0.0, 7.0, 7.0], 2), "▁█");
        assert_eq!(sparkline(&[3.0; 3], 10), "▁▁▁");
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(sparkline(&[0.0, f64::NAN, 1.0], 3), "▁ █");
    }

    #[test]
    fn times_read_like_clocks() {
        assert_eq!([minutes(0.4), minutes(65.0), minutes(3725.0)], ["0:00", "1:05", "1:02:05"]);
    }
}
