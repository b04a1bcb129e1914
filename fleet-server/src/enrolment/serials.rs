//! Lists of serial numbers, as CSV files with a header: a column `serial`, perhaps a column `device`, and a column for each
//! label. Pure.
//!
//! Where no device is named, it is called as its serial is, in lower case. An empty cell of a label is no label.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use tern_protocol::{
    enrolment::Serial,
    ids::{DeviceId, LabelKey, LabelValue, Labels},
};

use crate::forms::ClaimedDevice;

/// What a column holds.
enum Column {
    Serial,
    Device,
    Label(LabelKey),
}

/// The rows of a list. `labels` are every row's own, unless a cell says otherwise.
///
/// # Errors
/// Where the text is no such list; the message names the line.
pub fn parse(text: &str, labels: &[(LabelKey, LabelValue)]) -> anyhow::Result<Vec<ClaimedDevice>> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, header) =
        lines.next().context("the file is empty: its first line names the columns, such as serial,device")?;
    let columns: Vec<Column> = header.split(',').map(column).collect::<Result<_, _>>()?;
    let named = |wanted: fn(&Column) -> bool| columns.iter().filter(|column| wanted(column)).count();
    ensure!(named(|column| matches!(column, Column::Serial)) == 1, "the header wants one column `serial`");
    ensure!(named(|column| matches!(column, Column::Device)) <= 1, "the header has two columns `device`");
    let mut keys = BTreeSet::new();
    for column in &columns {
        let Column::Label(key) = column else { continue };
        ensure!(keys.insert(key), "the header has two columns `{key}`");
    }
    let rows = lines.map(|(index, line)| row(&columns, line, labels).with_context(|| format!("line {}", index + 1)));
    rows.collect()
}

fn column(name: &str) -> anyhow::Result<Column> {
    Ok(match name.trim() {
        "serial" => Column::Serial,
        "device" => Column::Device,
        label => Column::Label(label.parse().with_context(|| format!("the header's column {label:?} is no label"))?),
    })
}

fn row(columns: &[Column], line: &str, labels: &[(LabelKey, LabelValue)]) -> anyhow::Result<ClaimedDevice> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    ensure!(cells.len() == columns.len(), "{} cells where the header has {}", cells.len(), columns.len());
    let mut labels: Labels = labels.iter().cloned().collect();
    let (mut serial, mut device) = (None, None);
    for (column, cell) in columns.iter().zip(cells) {
        match column {
            Column::Serial => serial = Some(cell.parse::<Serial>()?),
            Column::Device if cell.is_empty() => {}
            Column::Device => device = Some(cell.parse::<DeviceId>()?),
            Column::Label(_) if cell.is_empty() => {}
            Column::Label(key) => drop(labels.insert(key.clone(), cell.parse()?)),
        }
    }
    let serial = serial.context("no serial")?;
    let device = match device {
        Some(device) => device,
        None => {
            serial.as_str().to_ascii_lowercase().parse().context("no device is named, and the serial is no name")?
        }
    };
    Ok(ClaimedDevice { serial, device, labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> (LabelKey, LabelValue) {
        let (key, value) = text.split_once('=').unwrap();
        (key.parse().unwrap(), value.parse().unwrap())
    }

    #[test]
    fn a_list_names_devices_and_labels_or_leaves_them_out() {
        let text = "serial,device,site\r\nSN-1,cam-1,hall-1\r\n\r\nSN-2,,\r\n";
        let rows = parse(text, &[label("site=yard"), label("line=a")]).unwrap();
        let told: Vec<_> = rows.iter().map(|row| (row.serial.as_str(), row.device.as_str())).collect();
        assert_eq!(told, [("SN-1", "cam-1"), ("SN-2", "sn-2")]);
        assert_eq!(rows[0].labels, [label("site=hall-1"), label("line=a")].into());
        assert_eq!(rows[1].labels, [label("site=yard"), label("line=a")].into());
    }

    #[test]
    fn a_fault_in_a_list_is_told_with_its_line() {
        for (text, fault) in [
            ("", "the file is empty"),
            ("device\ncam-1\n", "one column `serial`"),
            ("serial,serial\na,b\n", "one column `serial`"),
            ("serial,device,device\na,b,c\n", "two columns `device`"),
            ("serial,site,site\na,b,c\n", "two columns `site`"),
            ("serial,a b\nx,y\n", "is no label"),
            ("serial,device\nSN-1\n", "line 2: 1 cells"),
            ("serial\n\nA B\n", "line 3: a serial number has"),
            ("serial,device\nSN-1,Cam\n", "line 2: device \"Cam\""),
            ("serial\nSN/1\n", "the serial is no name"),
        ] {
            let error = format!("{:#}", parse(text, &[]).map(drop).unwrap_err());
            assert!(error.contains(fault), "{text:?}: {error}");
        }
    }
}
