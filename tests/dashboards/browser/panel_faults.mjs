// What is wrong with the panels of a dashboard, as a browser shows them. Runs inside the page.

/** Return the faults of the panels on the page: errors, missing data, cut text, tables that scroll sideways. */
export function panelFaults(mayBeEmpty) {
  const faults = [];
  const text = (element) => (element.innerText ?? element.textContent ?? '').trim().replace(/\s+/g, ' ').slice(0, 60);
  // Half a pixel is rounding of the browser, not a letter.
  const isCut = (element) => element.scrollWidth > element.clientWidth + 1;
  for (const panel of document.querySelectorAll('section[data-testid^="data-testid Panel header"]')) {
    const title = panel.dataset.testid.replace('data-testid Panel header ', '');
    const say = (kind, what) => faults.push({ kind, panel: title, what });
    const status = panel.querySelector('[data-testid^="data-testid Panel status error"]');
    if (status) say('error', status.getAttribute('aria-label') || 'the panel has an error');
    const message = panel.querySelector('[data-testid="data-testid Panel data error message"]');
    if (message && !mayBeEmpty.includes(title)) say('empty', text(message));
    if (/\bNaN\b|undefined|\[object |\$\{|Invalid date/.test(panel.innerText)) say('value', text(panel));
    const heading = panel.querySelector('h2');
    if (heading && isCut(heading)) say('cut title', title);
    for (const cell of panel.querySelectorAll('[role="columnheader"]')) {
      // Only what holds the words: the handle that resizes a column overhangs it on purpose.
      const holdsWords = (part) => [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      const label = [cell, ...cell.querySelectorAll('*')].find((part) => holdsWords(part) && isCut(part));
      if (label) say('cut column head', text(cell));
    }
    for (const grid of panel.querySelectorAll('[role="grid"]')) {
      if (isCut(grid)) say('sideways scroll', `${grid.scrollWidth} px in ${grid.clientWidth} px`);
    }
    for (const label of panel.querySelectorAll('[class*="LegendLabel"]')) {
      if (isCut(label)) say('cut legend', text(label));
    }
  }
  return faults;
}
