/** Tables sorted by any column, and linears filtered. */
export const TABLES_SCRIPT = String.raw`
function startSorting(table) {
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const order = new Map(rows.map((row, i) => [row, i]));
  heads.forEach((head, column) => {
    head.querySelector('.sort').addEventListener('click', () => {
      // Largest first is what is asked of figures.
      const numeric = head.classList.contains('number');
      const first = numeric ? 'descending' : 'ascending';
      const other = numeric ? 'ascending' : 'descending';
      const now = head.getAttribute('aria-sort');
      const next = now === null ? first : now === first ? other : null;
      for (const each of heads) each.removeAttribute('aria-sort');
      if (next) head.setAttribute('aria-sort', next);
      const keys = new Map(rows.map((row) => [row, next && keyOf(row.cells[column])]));
      const sign = next === 'descending' ? -1 : 1;
      const sorted = rows.toSorted((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        // What was not measured comes last, whatever the direction.
        if (x === '' || y === '') return (x === '') - (y === '') || order.get(a) - order.get(b);
        const difference = numeric ? (x < y ? -1 : x > y ? 1 : 0) : next ? x.localeCompare(y, undefined, { numeric: true }) : 0;
        return sign * difference || order.get(a) - order.get(b);
      });
      table.tBodies[0].append(...sorted);
    });
  });

  function keyOf(cell) {
    const value = cell.dataset.value;
    if (value === undefined) return cell.textContent;
    return value === '' || value === 'NaN' ? '' : Number(value);
  }
}

function startFilter() {
  const [text, precision, count, table] = ['linear-text', 'linear-precision', 'linear-count', 'linears-table'].map(byId);
  if (!table) return;
  const rows = [...table.tBodies[0].rows].map((row) => {
    const name = row.cells[0].textContent + ' ' + row.cells[row.cells.length - 1].textContent;
    return { row, name: name.toLowerCase() };
  });
  function filter() {
    const words = text.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const { row, name } of rows) {
      const fits =
        words.every((word) => name.includes(word)) &&
        (precision.value === '' || row.dataset.precision === precision.value);
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown + ' of ' + rows.length;
  }
  text.addEventListener('input', filter);
  precision.addEventListener('change', filter);
}
`;
