// A real Chromium through the sign-in pages: every level, Deny, a wrong password, the back button, a form sent twice, a
// phone, the keyboard alone, no script, a frame. Screenshots go to a folder, for people to look at.
//
//   node run.mjs GATEWAY CORE SCREENSHOTS

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { asking, CALLBACK, CLIENT, PASSWORD, PUBLIC, world } from './world.mjs';

const [gateway, core, pictures] = process.argv.slice(2);
assert(gateway && core && pictures, 'usage: node run.mjs GATEWAY CORE SCREENSHOTS');
mkdirSync(pictures, { recursive: true });
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const around = await world(gateway, core);
const complaints = [];
let number = 0;

/** One browser that knows nothing yet. */
async function visitor(options = {}) {
  number += 1;
  const context = await around.browser.newContext({ userAgent: `test case/${number}`, ignoreHTTPSErrors: true, ...options });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => complaints.push(String(error)));
  return page;
}

const picture = (page, name) => page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
const password = (page) => page.getByLabel('Owner password');
const allow = (page) => page.getByRole('button', { name: 'Allow' });
const level = (page, name) => page.getByRole('radio', { name });

/** Where the browser has arrived; it must be the app, and say who sent it. */
async function back(page, asked, to = CALLBACK) {
  await page.waitForURL((url) => url.href.startsWith(`${to}?`));
  const query = new URL(page.url()).searchParams;
  assert.equal(query.get('state'), asked.state);
  assert.equal(query.get('iss'), PUBLIC);
  return query;
}

/** No part of the page sticks out at the side, and axe finds nothing to complain about. */
async function sound(page, what) {
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert(wide <= room, `${what}: ${wide} px wide in ${room} px`);
  const found = await page.evaluate(`${axe}; axe.run()`);
  const wrong = found.violations.map((rule) => `${rule.id}: ${rule.help} ${rule.nodes.map((node) => node.html)}`);
  assert.deepEqual(wrong, [], what);
}

const cases = {
  async 'every level, from the lowest, which is preselected'() {
    for (const [index, name] of ['Monitor', 'Operate', 'Configure', 'Manage'].entries()) {
      const [page, asked] = [await visitor(), asking()];
      await page.goto(asked.url);
      assert(await level(page, 'Monitor').isChecked());
      assert(await page.getByText('claude.ai', { exact: true }).isVisible());
      await level(page, name).check();
      await password(page).fill(PASSWORD);
      await allow(page).click();
      const query = await back(page, asked);
      const tokens = await around.token(asked.form(query.get('code')));
      assert.equal(tokens.status, 200, JSON.stringify(tokens));
      assert.equal(tokens.scope.split(' ').length, index + 1);
      assert.equal((await around.call(tokens.access_token)).status, 200);
      await page.context().close();
    }
  },

  async 'deny, without a password'() {
    const [page, asked] = [await visitor(), asking()];
    await page.goto(asked.url);
    await page.getByRole('button', { name: 'Deny' }).click();
    const query = await back(page, asked);
    assert.equal(query.get('error'), 'access_denied');
    assert.equal(query.get('code'), null);
  },

  async 'a wrong password, then the right one'() {
    const [page, asked] = [await visitor(), asking()];
    await page.goto(asked.url);
    await level(page, 'Operate').check();
    await password(page).fill('something else');
    await password(page).press('Enter');
    await page.getByRole('alert').waitFor();
    assert.equal(await page.getByRole('alert').textContent(), 'That password is not right.');
    assert.match(await page.title(), /^Error: /);
    assert(await password(page).evaluate((field) => field === document.activeElement && field.value === ''));
    assert(await level(page, 'Operate').isChecked(), 'what was chosen stays chosen');
    await picture(page, 'wrong-password');
    await sound(page, 'wrong password');
    await password(page).fill(PASSWORD);
    await password(page).press('Enter');
    assert((await back(page, asked)).get('code'));
  },

  async 'guessing is slowed, also for the right password'() {
    const [page, asked] = [await visitor(), asking()];
    await page.goto(asked.url);
    for (let tried = 0; tried < 5; tried += 1) {
      await password(page).fill(`guess ${tried}`);
      await allow(page).click();
      await page.getByText('That password is not right.').waitFor();
    }
    await password(page).fill(PASSWORD);
    const [answer] = await Promise.all([page.waitForResponse((answer) => answer.request().method() === 'POST'), allow(page).click()]);
    assert.equal(answer.status(), 429);
    assert(Number(answer.headers()['retry-after']) > 0);
    await page.getByText('too many wrong passwords').waitFor();
    await picture(page, 'too-many');
  },

  async 'an empty password does not leave the page'() {
    const [page, asked] = [await visitor(), asking()];
    await page.goto(asked.url);
    await allow(page).click();
    assert(await password(page).evaluate((field) => !field.validity.valid && field === document.activeElement));
  },

  async 'the back button leads to a fresh form that works'() {
    const [page, asked] = [await visitor(), asking()];
    await page.goto(asked.url);
    await password(page).fill(PASSWORD);
    await allow(page).click();
    const first = (await back(page, asked)).get('code');
    await page.goBack();
    assert.equal(await password(page).inputValue(), '', 'the page was not kept');
    await password(page).fill(PASSWORD);
    await allow(page).click();
    const second = (await back(page, asked)).get('code');
    assert.notEqual(first, second);
    assert.equal((await around.token(asked.form(second))).status, 200);
  },

  async 'pressed twice, connected once'() {
    const [page, asked] = [await visitor(), asking()];
    await page.goto(asked.url);
    await password(page).fill(PASSWORD);
    await allow(page).dblclick();
    const query = await back(page, asked);
    assert.equal((await around.token(asked.form(query.get('code')))).status, 200);
  },

  async 'a form whose code was used says what to do'() {
    const [page, asked] = [await visitor(), asking()];
    await page.goto(asked.url);
    const form = await page.locator('input[name=form]').inputValue();
    await password(page).fill(PASSWORD);
    await allow(page).click();
    await around.token(asked.form((await back(page, asked)).get('code')));
    const other = asking();
    await page.goto(other.url);
    await page.locator('input[name=form]').evaluate((field, value) => { field.value = value; }, form);
    await password(page).fill(PASSWORD);
    await allow(page).click();
    await page.getByRole('heading', { name: 'This form was used already' }).waitFor();
    await picture(page, 'used-already');
    await sound(page, 'used already');
  },

  async 'the keyboard alone'() {
    const [page, asked] = [await visitor(), asking()];
    await page.goto(asked.url);
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
    const order = [];
    for (let press = 0; press < 4; press += 1) {
      await page.keyboard.press('Tab');
      order.push(await focused());
    }
    assert.deepEqual(order, ['level-1', 'password', 'Allow', 'Deny']);
    await level(page, 'Monitor').focus();
    await page.keyboard.press('ArrowDown');
    await picture(page, 'focus');
    await page.keyboard.press('Tab');
    await page.keyboard.type(PASSWORD);
    await page.keyboard.press('Enter');
    const tokens = await around.token(asked.form((await back(page, asked)).get('code')));
    assert.equal(tokens.scope, 'homelab:monitor homelab:operate');
  },

  async 'without script'() {
    const [page, asked] = [await visitor({ javaScriptEnabled: false }), asking()];
    await page.goto(asked.url);
    await password(page).fill(PASSWORD);
    await allow(page).click();
    assert((await back(page, asked)).get('code'));
  },

  async 'what a screen reader is told'() {
    const page = await visitor();
    await page.goto(asking({ scope: 'homelab:monitor homelab:operate' }).url);
    const tree = await page.locator('body').ariaSnapshot();
    for (const wanted of ['banner', 'main', 'heading "Let this app use your homelab?" [level=1]', 'group "What may this connection do?"',
      'radio "Monitor" [checked]', 'radio "Operate the app asks for this"', 'textbox "Owner password"', 'button "Allow"', 'button "Deny"']) {
      assert(tree.includes(wanted), `${wanted}\n${tree}`);
    }
  },

  async 'on phones and screens, light and dark'() {
    for (const [name, width, height] of [['phone', 390, 844], ['narrow', 320, 568], ['desktop', 1280, 900]]) {
      for (const colorScheme of ['light', 'dark']) {
        const page = await visitor({ viewport: { width, height }, colorScheme });
        await page.goto(asking({ scope: 'homelab:monitor homelab:operate' }).url);
        await sound(page, `${name} ${colorScheme}`);
        await picture(page, `consent-${name}-${colorScheme}`);
        await page.context().close();
      }
    }
  },

  async 'an app that registered itself is shown as such'() {
    const page = await visitor({ viewport: { width: 320, height: 568 } });
    const answer = await fetch(`http://127.0.0.1:${around.port}/oauth/register`, {
      method: 'POST',
      body: JSON.stringify({
        client_name: '<img src=x onerror=alert(1)> a-name-that-is-much-too-long-to-fit-on-a-phone',
        redirect_uris: [`http://127.0.0.1:${around.localPort}/callback`], token_endpoint_auth_method: 'none',
      }),
    });
    const { client_id } = await answer.json();
    const to = `http://127.0.0.1:${around.localPort}/callback`;
    const asked = asking({ client_id, redirect_uri: to });
    await page.goto(asked.url);
    await page.getByText('nobody has checked them').waitFor();
    await page.getByText('a program on the device that you are using now').waitFor();
    assert.equal(await page.locator('img').count(), 0);
    await sound(page, 'registered');
    await picture(page, 'registered');
    await password(page).fill(PASSWORD);
    await allow(page).click();
    assert((await back(page, asked, to)).get('code'));
  },

  async 'what cannot be connected is explained'() {
    const page = await visitor({ viewport: { width: 390, height: 844 } });
    await page.goto(asking({ redirect_uri: 'https://evil.example/callback' }).url);
    await page.getByRole('heading', { name: 'This app cannot be connected' }).waitFor();
    await sound(page, 'refused');
    await picture(page, 'refused');
    await page.goto(asking({ client_id: 'nobody' }).url);
    await page.getByText('does not know the app').waitFor();
  },

  async 'no frame'() {
    const page = await visitor();
    const before = complaints.length;
    await page.goto(`https://claude.ai/frame?${encodeURIComponent(asking().url)}`);
    const frame = await (await page.locator('#f').elementHandle()).contentFrame();
    assert.equal(await frame.getByLabel('Owner password').count(), 0);
    assert(complaints.splice(before).some((text) => text.includes('frame-ancestors')));
  },

  async 'connections: sign in, end one, sign out'() {
    const [app, asked] = [await visitor(), asking()];
    await app.goto(asked.url);
    await password(app).fill(PASSWORD);
    await allow(app).click();
    const tokens = await around.token(asked.form((await back(app, asked)).get('code')));

    const page = await visitor({ viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
    await page.goto(`${PUBLIC}/connections`);
    await picture(page, 'connections-sign-in');
    await sound(page, 'connections, signed out');
    await password(page).fill('wrong password');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('That password is not right.').waitFor();
    await password(page).fill(PASSWORD);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('listitem').first().waitFor();
    await picture(page, 'connections-phone-dark');
    await sound(page, 'connections');
    const before = await page.getByRole('listitem').count();
    assert.equal((await around.call(tokens.access_token)).status, 200);
    await page.reload();
    await page.getByRole('button', { name: `End ${CLIENT.id}` }).first().click();
    await page.getByRole('status').waitFor();
    assert.equal(await page.getByRole('listitem').count(), before - 1);
    const answer = await around.call(tokens.access_token);
    assert.equal(answer.status, 401, 'the last used stood first');
    assert.match(answer.headers.get('www-authenticate'), /error="invalid_token"/);
    const refreshed = await around.token({ ...asked.form(''), grant_type: 'refresh_token', refresh_token: tokens.refresh_token });
    assert.equal(refreshed.error, 'invalid_grant');
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.emulateMedia({ colorScheme: 'light' });
    await picture(page, 'connections-desktop-light');
    await sound(page, 'connections, wide');

    const cookies = await page.context().cookies();
    assert(cookies.every((cookie) => cookie.httpOnly && cookie.secure && cookie.sameSite === 'Strict' && cookie.name.startsWith('__Host-')));
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('You have signed out.').waitFor();
    await page.context().addCookies(cookies);
    await page.goto(`${PUBLIC}/connections`);
    await page.getByText('You were signed out').waitFor();
  },
};

let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    assert.deepEqual(complaints.splice(0).filter((text) => !/status of (4\d\d|409)/.test(text)), [], 'the browser complains');
    console.log(`ok: ${name}`);
  } catch (error) {
    failed += 1;
    complaints.length = 0;
    console.log(`FAILED: ${name}\n${error.stack}`);
  }
  await Promise.all(around.browser.contexts().map((context) => context.close()));
}
const log = around.log();
await around.close();
for (const secret of [PASSWORD, CLIENT.secret]) assert(!log.includes(secret), 'a secret is in the log');
if (failed) console.log(log);
process.exit(failed ? 1 : 0);
