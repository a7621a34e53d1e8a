// The table of measurements: filters, order, and rows that open.
// A row is [source, dataset, status, level, events, source bytes, prepared bytes, violations, alerts,
// quality alerts, date, reason, sample, measurement, private texts, gaps in the metadata].

const DATA = JSON.parse(document.getElementById("data").textContent);
const LEVELS = ["nothing", "alerts", "violations", "to do"];
// What can be filtered for by its place in a row.
const FOUND = { violated: 7, flagged: 9, private: 14, gaps: 15 };
const PER_PAGE = 50;
const MOST_PRINTED = 2000;

function escaped(text) {
  return String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

// Text in which a line may break behind what joins the words of a file name.
function broken(text) {
  return escaped(text).replace(/[_/.-](?=[^_/.-])/g, "$&<wbr>");
}

function kindOf(status) {
  return status.replaceAll(" ", "-");
}

function datasetOf(row) {
  return row[1] < 0 ? "" : DATA.datasets[row[1]][1];
}

function findingWords(row) {
  const words = [];
  if (row[7]) words.push(`${row[7]} violation${row[7] === 1 ? "" : "s"}`);
  if (row[8]) words.push(`${row[8]} alert${row[8] === 1 ? "" : "s"}`);
  if (row[9]) words.push(`${row[9]} quality`);
  if (row[14]) words.push(`${row[14]} private`);
  if (row[15]) words.push("metadata to fill in");
  return words.join(", ");
}

// What is merely not finished has the level of alerts without any.
function isOdd(row) {
  return row[3] > 1 || (row[3] === 1 && findingWords(row) !== "");
}

function nameCell(row, place) {
  const thumbnail = stored("t", place);
  const at = row[0].lastIndexOf("/");
  const picture = thumbnail
    ? `<img src="data:image/webp;base64,${escaped(thumbnail)}" alt="" width="64" height="48">`
    : '<span class="no-picture" aria-hidden="true"></span>';
  return `<button type="button" class="open" aria-expanded="false">${picture}<span class="name">`
    + `<span class="file">${broken(row[0].slice(at + 1))}</span>`
    + `<span class="muted folder">${broken(row[0].slice(0, Math.max(0, at)))}</span>`
    + `<span class="muted narrow">${broken(datasetOf(row))}</span></span></button>`;
}

function statusCell(row) {
  const status = DATA.statuses[row[2]];
  const level = isOdd(row) ? `<span class="level level${row[3]} narrow">${LEVELS[row[3]]}</span>` : "";
  return `<span class="pill ${kindOf(status)}">${escaped(status)}</span>${level}`;
}

function findingCell(row) {
  if (!isOdd(row)) return '<span class="muted">–</span>';
  return `<span class="level level${row[3]}">${LEVELS[row[3]]}</span>`
    + `<span class="muted words">${escaped(findingWords(row))}</span>`;
}

function sizeCell(row) {
  if (!row[6]) return `<span class="muted">${bytesText(row[5])}</span>`;
  const percent = row[5] ? ` <span class="muted">${Math.round(row[6] / row[5] * 100)} %</span>` : "";
  return bytesText(row[6]) + percent;
}

function column(title, cell, value, type, name) {
  return {
    title, type, className: name, searchable: false,
    data: null,
    render: (_, use, row, meta) => (use === "display" ? cell(row, meta.row) : value(row)),
  };
}

const COLUMNS = [
  column("Measurement", nameCell, (row) => row[0], "string", "measurement"),
  column("Dataset", (row) => broken(datasetOf(row)), datasetOf, "string", "wide dataset"),
  column("Status", statusCell, (row) => row[2], "num", "status"),
  column("Findings", findingCell, (row) => row[3] * 1e6 + row[7] * 1e3 + row[8] + row[9] + row[14], "num", "wide found"),
  column("Events", (row) => (row[4] ? row[4].toLocaleString("en") : ""), (row) => row[4], "num", "wide number events"),
  column("Size", sizeCell, (row) => row[6] || row[5], "num", "wide number size"),
  column("Acquired", (row) => escaped(row[10]), (row) => row[10], "string", "wide date"),
];

const form = document.querySelector("form.filters");
const count = document.querySelector("p.count");
const haystack = DATA.rows.map((row) => [row[0], row[11], row[12], row[13], row[10], datasetOf(row)].join("\n").toLowerCase());

function wanted() {
  const { text, status, dataset, level } = Object.fromEntries(new FormData(form));
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (row, place) => (
    (status === "" || row[2] === Number(status))
    && (dataset === "" || row[1] === Number(dataset))
    && (level === "" || (level in FOUND ? row[FOUND[level]] > 0 : row[3] === Number(level)))
    && words.every((word) => haystack[place].includes(word))
  );
}

const table = new DataTable("#table", {
  data: DATA.rows,
  columns: COLUMNS,
  order: [[3, "desc"], [0, "asc"]],
  pageLength: PER_PAGE,
  deferRender: true,
  autoWidth: false,
  orderMulti: true,
  layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: "paging" },
  language: { emptyTable: "nothing was found yet", zeroRecords: "no measurement fits the filters" },
  createdRow: (element, _row, place) => { element.dataset.place = place; },
});

function refilter() {
  const fits = wanted();
  table.search.fixed("filters", (_text, row, place) => fits(row, place)).draw();
}

function tell() {
  const { pages, recordsDisplay, recordsTotal, start, end } = table.page.info();
  document.querySelector(".dt-paging").hidden = pages < 2;
  const some = recordsDisplay === recordsTotal ? "" : ` (of ${recordsTotal.toLocaleString("en")})`;
  const rows = recordsDisplay ? `${start + 1} to ${end} of ` : "";
  count.textContent = `${rows}${recordsDisplay.toLocaleString("en")} measurement${recordsDisplay === 1 ? "" : "s"}${some}`;
}

async function toggle(element) {
  const row = table.row(element);
  const button = element.querySelector("button.open");
  const open = !row.child.isShown();
  button.setAttribute("aria-expanded", String(open));
  element.classList.toggle("is-open", open);
  if (!open) {
    row.child.hide();
    return;
  }
  const box = await details(row.data(), row.index());
  row.child(box, "details-row").show();
}

function setUp() {
  const status = form.elements.status;
  DATA.statuses.forEach((name, at) => {
    if (DATA.rows.some((row) => row[2] === at)) status.append(make("option", { value: at, text: name }));
  });
  DATA.datasets.map(([, title], at) => [title, at]).sort((a, b) => a[0].localeCompare(b[0])).forEach(
    ([title, at]) => form.elements.dataset.append(make("option", { value: at, text: title })));
  form.hidden = !DATA.rows.length;
  let timer = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(refilter, 120);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(refilter));
  table.on("draw", tell);
  tell();
  table.table().body().addEventListener("click", (event) => {
    const element = event.target.closest("tr[data-place]");
    const other = event.target.closest("a, input, select");
    if (element && !other && String(window.getSelection()) === "") toggle(element);
  });
}

// Links that show some measurements: {"status": "failed"}, {"dataset": id}, {"level": "2"}.
function show(filters) {
  form.reset();
  if (filters.status) form.elements.status.value = DATA.statuses.indexOf(filters.status);
  if (filters.level) form.elements.level.value = filters.level;
  if (filters.dataset) form.elements.dataset.value = DATA.datasets.findIndex(([id]) => id === filters.dataset);
  if (filters.text) form.elements.text.value = filters.text;
  refilter();
}

setUp();
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-show]");
  if (link) setTimeout(show, 0, JSON.parse(link.dataset.show));
});

// A printed page has all rows, up to a bound; afterwards the table is as before.
window.addEventListener("beforeprint", () => table.page.len(Math.min(MOST_PRINTED, Math.max(1, DATA.rows.length))).draw());
window.addEventListener("afterprint", () => table.page.len(PER_PAGE).draw());
document.documentElement.dataset.ready = "yes";
