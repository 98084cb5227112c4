import { PLAYER_SCRIPT } from './player.js';
import { TABLES_SCRIPT } from './tables.js';

const REST = `
const byId = (id) => document.getElementById(id);

function startHistograms() {
  const choice = byId('histogram-choice');
  if (!choice) return;
  const all = [...document.querySelectorAll('.histogram')];
  function choose(id) {
    choice.value = id;
    for (const details of all) details.open = details.id === id;
    for (const row of document.querySelectorAll('#linears-table tbody tr')) {
      const link = row.querySelector('.to-histogram');
      row.classList.toggle('chosen', link !== null && link.hash === '#' + id && id !== '');
    }
  }
  choice.addEventListener('change', () => choose(choice.value));
  document.addEventListener('click', (event) => {
    const link = event.target.closest('.to-histogram');
    if (link) choose(link.hash.slice(1));
  });
  const asked = location.hash.slice(1);
  const first = all.find((details) => details.id === asked) ?? all[0];
  choose(first.id);
}

function startTheme() {
  const root = document.documentElement;
  byId('theme').addEventListener('click', () => {
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
  });
}

function startCopying() {
  for (const button of document.querySelectorAll('.copy')) {
    button.addEventListener('click', async () => {
      const pre = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(pre.textContent);
        button.textContent = 'Copied';
        setTimeout(() => { button.textContent = 'Copy'; }, 2000);
      } catch {
        // Not every browser lets a local page write: the text is selected instead.
        getSelection().selectAllChildren(pre);
        button.textContent = 'Selected';
      }
    });
  }
}

startTheme();
startPlayer();
document.querySelectorAll('table.sortable').forEach(startSorting);
startFilter();
startHistograms();
startCopying();
`;

/** Whatever moves on the page. It makes no element out of text, and asks nothing of any server. */
export const PAGE_SCRIPT = `'use strict';\n${PLAYER_SCRIPT}${TABLES_SCRIPT}${REST}`;
