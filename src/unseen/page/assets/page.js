// The page: what is drawn when, and what the controls and keys do.

const PAGE = 24
const by = id => document.getElementById(id)
const CHARTS = {look: 'Map', said: 'Predictions', histogram: 'Long tail', losses: 'Losses', cartography: 'Data map', pairs: 'Pairs', classes: 'Classes', epochs: 'Epochs'}

async function start() {
  const data = await unpack(by('data').textContent), n = data.ids.length
  const mask = new Uint8Array(n), unpaired = new Uint8Array(n)
  let shown = new Uint32Array(0), limit = PAGE, last = null, large = null, waiting = 0
  journal.store = `unseen:${data.run}`
  if (!restore()) journal.said = 'The decisions that this browser kept could not be read.'
  START.chart = data.look_x ? 'look' : 'said'

  function redraw() {
    filtered(data, mask)
    shown = passing(order(data), mask)
    if (!CHARTS[state.chart] || state.chart === 'look' && !data.look_x) state.chart = START.chart
    chart()
    cards()
    bar(data, shown, act)
    keep()
  }

  function chart() {
    const panel = by('chart'), id = state.chart
    for (const button of by('charts').children) button.setAttribute('aria-pressed', String(button.dataset.chart === id))
    const drawn = id === 'histogram' || SCATTERS[id]
    by('shade-field').hidden = !SCATTERS[id]
    by('lasso').hidden = !drawn
    by('chart-about').textContent = SCATTERS[id]?.about ?? {histogram: 'How many examples have which memorization; the axis of the count is logarithmic. Blue: in view.', pairs: 'Rows: label. Columns: what the unseen side says. A click opens exactly those.', classes: 'Bar: the middle 90%; tick: the median; dot: the highest. A click filters by the class.', epochs: 'Means over the examples of each group.'}[id]
    by('legend').replaceChildren(...SCATTERS[id] ? legend(data) : [])
    if (by('side').offsetParent === null && getComputedStyle(by('side')).display === 'none') return
    by('canvas').hidden = !drawn
    if (id === 'histogram') histogram(by('canvas'), data, mask)
    if (SCATTERS[id]) scatter(by('canvas'), id, data, mask)
    if (drawn) by('canvas').setAttribute('aria-label', `${CHARTS[id]} of ${grouped(n)} examples; ${grouped(shown.length)} of them are in view. The fields above select the same without a pointer.`)
    const pair = (g, s) => set(state.class === g && state.said === s ? {class: null, said: null} : {class: g, said: s})
    const parts = {pairs: () => [confusion(data, filtered(data, unpaired, false), pair)], classes: () => [perClass(data, mask, c => set({class: state.class === c ? null : c}))], epochs: () => [lines(data, 'loss', false), lines(data, 'correct', true)]}
    panel.replaceChildren(...parts[id]?.() ?? [])
  }

  function cards() {
    const list = by('cards'), some = Array.from(shown.subarray(0, limit)), grid = state.view === 'cards'
    by('by-class').replaceChildren(...grid ? [] : byClass(data, shown, act.open))
    list.hidden = !grid
    list.replaceChildren(...grid ? some.map(i => card(data, i, act)) : [])
    if (!some.length) list.append(element('li', {className: 'empty'}, state.list === 'decided' && !decided.size ? 'Nothing is decided yet.' : 'No example is in view.'))
    by('more').hidden = !grid || shown.length <= limit
  }

  /** Draw again what a decision changes: the cards of these ids, the large view, the progress. */
  function touched(ids) {
    const focused = document.activeElement?.closest?.('.card')?.dataset.i
    for (const id of ids.length > 200 ? [] : ids) {
      const i = data.positions.get(id), old = by('cards').querySelector(`[data-i="${i}"]`)
      if (!old) continue
      const fresh = card(data, i, act)
      old.replaceWith(fresh)
      if (focused === String(i)) fresh.focus({preventScroll: true})
    }
    if (ids.length > 200) cards()
    if (state.shade === 'decided') chart()
    bar(data, shown, act)
    if (large !== null) show(large)
    keep()
  }

  function keep() {
    clearTimeout(waiting)
    waiting = setTimeout(address, 150)
  }

  function address() { try { history.replaceState(null, '', toAddress(data)) } catch { /* some browsers allow a hundred in half a minute */ } }

  function set(changes) {
    if (state.only !== null) changes = {only: null, ...changes}
    Object.assign(state, changes)
    limit = PAGE
    redraw()
  }

  function show(i) {
    large = i
    const inNote = document.activeElement?.matches?.('#large textarea')
    by('large').replaceChildren(...opened(data, i, act))
    if (!by('large').open) by('large').showModal()
    if (!inNote) by('large').focus()
  }

  function focus(place) {
    if (place >= limit && place < shown.length) { limit = place + PAGE; cards() }
    const found = by('cards').children[Math.max(0, Math.min(place, shown.length - 1))]
    found?.focus({preventScroll: true})
    found?.scrollIntoView({block: 'nearest'})
  }

  /** After a decision by key: the selection is done with, or the next card comes. */
  function moved(positions) {
    if (state.selected.size && large === null) return act.clear()
    const place = placeOf(positions[0]) + 1
    if (place < shown.length) large !== null ? show(shown[place]) : focus(place)
  }

  const placeOf = i => shown.indexOf(i)
  const act = {
    set, redraw,
    isOpen: () => large !== null,
    current: () => {
      const focused = document.activeElement?.closest?.('.card')?.dataset.i
      return large ?? (focused !== undefined ? +focused : shown[0] ?? null)
    },
    open: i => show(i),
    close: () => by('large').close(),
    where: i => placeOf(i) < 0 ? '' : `${grouped(placeOf(i) + 1)} of ${grouped(shown.length)}`,
    step: by_ => {
      const place = placeOf(act.current()), isFocused = large !== null || document.activeElement?.closest?.('.card')
      const next = isFocused ? Math.max(0, Math.min(shown.length - 1, place + by_)) : 0
      large !== null ? show(shown[next]) : focus(next)
    },
    decide: (positions, kind, label) => touched(decide(data, positions, kind, label)),
    decideAndMove: (positions, kind, label) => {
      act.decide(positions, kind, label)
      moved(positions)
    },
    suggest: positions => {
      touched(decide(data, positions, 'relabel', i => named(data, data.said_unseen[i])))
      moved(positions)
    },
    note: (i, text) => touched(annotate(data.ids[i], text)),
    undo: () => returned(undo()),
    redo: () => returned(redo()),
    select: (i, range) => {
      const from = range && last !== null ? placeOf(last) : -1, to = placeOf(i)
      const some = from >= 0 ? shown.subarray(Math.min(from, to), Math.max(from, to) + 1) : [i]
      const on = !state.selected.has(i)
      for (const one of some) on ? state.selected.add(one) : state.selected.delete(one)
      last = i
      touched(Array.from(some, one => data.ids[one]))
    },
    selectAll: () => { for (const i of shown) state.selected.add(i); touched(Array.from(shown, i => data.ids[i])) },
    clear: () => { const some = [...state.selected]; state.selected.clear(); touched(some.map(i => data.ids[i])) },
    chooseLabel: () => (large !== null ? by('large') : by('cards').querySelector(`[data-i="${act.current()}"]`))?.querySelector('.classes-of')?.focus(),
    writeNote: () => { if (large === null && act.current() !== null) show(act.current()); by('large').querySelector('textarea')?.focus() },
    list: k => { const button = [...by('lists').children].filter(one => !one.hidden)[k]; if (button) set({list: button.dataset.list}) },
    escape: () => { if (large !== null || by('keys').open) return; if (state.selected.size) return act.clear(); set({region: null}) },
    help: () => by('keys').open ? by('keys').close() : by('keys').showModal(),
    redrawChart: chart, touched,
  }

  /** After an undo: draw again, and show the card that it was about. */
  function returned(ids) {
    touched(ids)
    const place = ids.length === 1 ? placeOf(data.positions.get(ids[0])) : -1
    if (place >= 0) large !== null ? show(shown[place]) : focus(place)
  }

  wire(data, act)
  keyboard(data, act)
  pointers(data, by('canvas'), mask, set, act.open)
  by('large').addEventListener('close', () => { const place = placeOf(large); large = null; focus(place) })
  by('large').addEventListener('click', event => { if (event.target === by('large')) by('large').close() })
  by('more').onclick = () => { const place = limit; limit += PAGE; cards(); focus(place) }
  // not location.hash, which may be the last one again: the page writes its address late
  addEventListener('hashchange', event => { Object.assign(state, fromAddress(data, new URL(event.newURL).hash)); redraw() })
  addEventListener('storage', event => { if (event.key === journal.store && event.newValue) { restore(); redraw() } })
  addEventListener('pagehide', address)
  Object.assign(state, fromAddress(data, location.hash))
  state.chart ??= START.chart
  redraw()
  document.documentElement.dataset.ready = 'yes'
}
