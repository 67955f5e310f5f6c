// The keyboard: every key acts on the card in focus, or on the first one. Nothing needs a mouse.

const KEYS = [
  ['k', 'keep'], ['d', 'drop'], ['r', 'relabel as the unseen side says'], ['l', 'choose any label'], ['s', 'skip'], ['u', 'undo'], ['Shift u', 'redo'],
  ['← →', 'move'], ['Enter', 'open large'], ['Escape', 'close, or clear the selection and the lasso'], ['x', 'select'], ['Shift a', 'select all in view'], ['n', 'write a note'], ['/', 'search'], ['1 to 9', 'change the list'], ['?', 'show these keys'],
]

function keyboard(data, act) {
  document.addEventListener('keydown', event => {
    const typing = event.target.matches?.('input:not([type=checkbox]), textarea, select')
    if (event.key === 'Escape') return typing ? event.target.blur() : act.escape()
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return
    const targets = () => state.selected.size && !act.isOpen() ? [...state.selected] : act.current() === null ? [] : [act.current()]
    const does = kind => () => { const some = targets(); if (some.length) act.decideAndMove(some, kind) }
    const suggest = () => { const some = targets(); if (some.length) act.suggest(some) }
    const actions = {
      k: does('keep'), d: does('drop'), s: does('skip'), r: suggest, u: act.undo, U: act.redo, l: act.chooseLabel, n: act.writeNote,
      x: () => act.current() !== null && act.select(act.current(), false), A: act.selectAll, '/': () => by('search').focus(), '?': act.help,
      ArrowRight: () => act.step(1), ArrowLeft: () => act.step(-1),
    }
    const onControl = event.target.matches?.('button, a, summary, input')
    if (event.key === 'Enter' && !onControl) { event.preventDefault(); return act.current() !== null && act.open(act.current()) }
    if (/^[1-9]$/.test(event.key) && !act.isOpen()) return act.list(+event.key - 1)
    const action = actions[event.key]
    if (!action) return
    event.preventDefault()
    action()
  })
}
