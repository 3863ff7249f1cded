// Opens every dashboard in a real Grafana at each size, theme and range, takes a picture, and says what is wrong.
// Exit code 1 when a panel has an error, no data or cut text, or the browser's console has an error.
//   GRAFANA_TOKEN=… node render.mjs --url http://localhost:3000 --out pictures [--boards a,b] [--sizes 1440x900,…]
//     [--themes dark,light] [--ranges 1h,24h,7d,30d] [--may-be-empty 'Title,Title'] [--trace ID]
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { panelFaults } from './panel_faults.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string', default: 'http://localhost:3000' },
    out: { type: 'string', default: 'pictures' },
    boards: { type: 'string', default: '' },
    sizes: { type: 'string', default: '1440x900,1920x1080' },
    themes: { type: 'string', default: 'dark,light' },
    ranges: { type: 'string', default: '1h,24h,7d,30d' },
    browser: { type: 'string', default: process.env.CHROMIUM ?? '/usr/bin/chromium' },
    'may-be-empty': { type: 'string', default: '' },
    trace: { type: 'string', default: '' },
  },
});
const TAG = 'llm-traces';
const WAIT_MS = 60_000;
const PANEL = 'section[data-testid^="data-testid Panel header"]';
const list = (text) => text.split(',').filter(Boolean);
const base = options.url.replace(/\/$/, '');
const headers = { Authorization: `Bearer ${process.env.GRAFANA_TOKEN ?? ''}`, 'Content-Type': 'application/json' };

/** Return the JSON that Grafana answers; throws when it refuses. */
async function ask(address, body) {
  const answer = await fetch(`${base}${address}`, { headers, method: body ? 'POST' : 'GET', body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${address}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** Return the id of the newest trace, which the dashboard of one trace shows; empty without one. */
async function newestTrace() {
  const now = Date.now();
  const range = { from: new Date(now - 86_400_000).toISOString(), to: new Date(now).toISOString() };
  const targets = [{ refId: 'A', target: 'traces', payload: { limit: 1 } }];
  try {
    const frames = await ask('/api/datasources/proxy/uid/llmtraces/query', { app: 'dashboard', range, targets });
    return /\b[0-9a-f]{32}\b/.exec(JSON.stringify(frames))?.[0] ?? '';
  } catch {
    return ''; // dashboards without the plugin: no such data source
  }
}

/** Wait until every panel is drawn, also those that Grafana loads when they come into the window. */
async function settled(page) {
  await page.waitForSelector(PANEL, { timeout: WAIT_MS });
  await page.waitForLoadState('networkidle', { timeout: WAIT_MS });
  const { width, height } = page.viewportSize();
  const whole = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width, height: Math.max(whole, height) });
  await page.waitForLoadState('networkidle', { timeout: WAIT_MS });
  // Drawn is what has content, does not load, and looks the same a second later: graphs are laid out by a worker.
  await page.waitForFunction((selector) => {
    const panels = [...document.querySelectorAll(selector)];
    const isBusy = panels.some((panel) => panel.querySelector('[aria-label="Panel loading bar"]')
      || !panel.querySelector('[data-testid="data-testid panel content"]')?.childElementCount);
    const look = `${isBusy} ${document.body.innerText.length} ${document.querySelectorAll('svg *, canvas').length}`;
    const now = Date.now();
    if (look !== window.lastLook) [window.lastLook, window.lastChange] = [look, now];
    return !isBusy && now - window.lastChange > 1000;
  }, PANEL, { timeout: WAIT_MS, polling: 200 });
}

/** Open one dashboard, keep its picture, return its faults. */
async function render(context, board, { size, theme, range, trace }) {
  const [width, height] = size.split('x').map(Number);
  const page = await context.newPage();
  const faults = [];
  const say = (kind, what) => faults.push({ kind, panel: '', what: String(what).slice(0, 200) });
  page.on('console', (message) => message.type() === 'error' && say('console', message.text()));
  page.on('pageerror', (error) => say('console', error.message));
  page.on('response', (answer) => answer.status() >= 400 && say('request', `${answer.status()} ${answer.url()}`));
  const variables = board.uid === 'llm-trace' && trace ? `&var-trace_id=${trace}` : '';
  const started = Date.now();
  try {
    await page.setViewportSize({ width, height });
    await page.goto(`${base}/d/${board.uid}?kiosk&theme=${theme}&from=now-${range}&to=now&timezone=utc${variables}`);
    await settled(page);
    faults.push(...await page.evaluate(panelFaults, list(options['may-be-empty'])));
  } catch (error) {
    say('not ready', error.message.split('\n')[0]);
  }
  const name = `${board.uid}-${theme}-${size}-${range}`;
  await page.screenshot({ path: path.join(options.out, `${name}.png`) });
  await page.close();
  return { name, seconds: (Date.now() - started) / 1000, faults };
}

const chosen = list(options.boards);
const boards = (await ask(`/api/search?type=dash-db&tag=${TAG}`)).concat(await ask('/api/search?type=dash-db&query=LLM%20trace'))
  .filter((board, index, all) => all.findIndex((other) => other.uid === board.uid) === index)
  .filter((board) => board.uid.startsWith('llm-') && (!chosen.length || chosen.includes(board.uid)));
const trace = options.trace || await newestTrace();
fs.mkdirSync(options.out, { recursive: true });
const browser = await chromium.launch({ executablePath: options.browser, args: ['--no-sandbox', '--force-color-profile=srgb'] });
const context = await browser.newContext({ extraHTTPHeaders: { Authorization: headers.Authorization }, locale: 'en-US' });
let count = 0;
for (const board of boards) {
  for (const size of list(options.sizes)) for (const theme of list(options.themes)) for (const range of list(options.ranges)) {
    const { name, seconds, faults } = await render(context, board, { size, theme, range, trace });
    console.log(`${faults.length ? 'FAULTY' : 'ok    '} ${name} ${seconds.toFixed(1)} s`);
    const lines = faults.map(({ kind, panel, what }) => `         ${kind}: ${panel ? `${panel}: ` : ''}${what}`);
    for (const line of new Set(lines)) console.log(line);
    count += faults.length;
  }
}
await browser.close();
console.log(`${boards.length} dashboards, ${count} faults`);
process.exit(count || !boards.length ? 1 : 0);
