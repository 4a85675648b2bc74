package meter

// How much credit is bought at once. A loop without calls does not touch the counter in each round: it spends a credit
// that it holds in a local, and buys more when that is used up, in a second loop around it. So the call of refill, and
// with it the saving of registers that a compiler puts around calls, is outside of the loop that runs:
//
//	loop $buy
//	  … if credit is below zero: counter -= 16 × COST, credit += 16 × COST, refill if below zero
//	  loop $body
//	    local.get $credit  i64.const COST  i64.sub  local.tee $credit
//	    i64.const 0  i64.ge_s  if  else  br $buy  end
//	    …
//	  end
//	end
//
// What is left of it at the end of the function is lost to the guest.
const (
	creditRounds  = 16
	minCredit     = 128
	prepaidRounds = 8 // bought at the entry of a function without calls, with what the entry costs
	minPrepaid    = 32
	maxPrepaid    = 256
)

// foldable is the most that an entry may cost to be paid for by the loop that follows it.
const foldable = 24

// free is the most that an entry may cost to be paid for by the function's callers, where the function calls nothing. A
// call through a table does not know whom it calls, and pays costIndirect for all of them: so it is less for a function
// that may be in a table.
const (
	free         = 160
	freeInTables = 96
)

// settle writes what the points cost into the marks, when the whole function has been read. It returns what the
// function's callers pay for it, at most free: 0 if it does so itself.
func (s *scanner) settle(free int64) int64 {
	entry, marks := &s.points[0], s.body.marks
	var looped, dearest int64
	for i := range s.points[1:] {
		p := &s.points[i+1]
		p.credits = s.points[p.parent].credits
		if p.credit {
			p.credits++
			dearest = max(dearest, p.cost)
		}
		if !p.entered {
			looped += p.cost
		}
	}
	for i := range s.points[1:] {
		s.settleLoop(&s.points[i+1])
	}
	paid := int64(0)
	// A stack frame holds at most sixteen bytes for each local and each value: it is paid for once 256 bytes.
	cost := entry.cost + (int64(s.locals)+looped)/16
	if s.body.credit && !entry.calls {
		prepaid := min(max(prepaidRounds*dearest, minPrepaid), maxPrepaid)
		marks[0].arg = uint32(prepaid)
		if cost+minPrepaid <= free {
			prepaid = min(prepaid, free-cost)
			marks[0].arg = uint32(prepaid)
		}
		cost += prepaid
	}
	switch {
	case !entry.calls && cost <= free:
		paid = cost
		if marks[0].kind = markNothing; marks[0].arg > 0 {
			marks[0].kind = markPrepaid
		}
	case s.onlyLoop != 0 && marks[s.points[s.onlyLoop].head].kind == markCharge && cost <= foldable:
		marks[s.points[s.onlyLoop].head].cost += cost
		marks[0].kind = markNothing
	default:
		marks[0].cost = cost
	}
	for i := range marks {
		s.settleBranch(&marks[i])
	}
	return paid
}

func (s *scanner) settleLoop(p *point) {
	head, open := &s.body.marks[p.head], &s.body.marks[p.open]
	if p.credit {
		// Twice the cost of a round, or a round could not be paid for after the one that ran out of credit.
		open.cost = max(creditRounds*p.cost, minCredit)
	}
	switch {
	case p.entered:
	case p.credit:
		*head = mark{at: head.at, end: head.end, kind: markSpend, cost: p.cost}
	default:
		*head = mark{at: head.at, end: head.end, kind: markCharge, cost: p.cost}
	}
}

// settleBranch moves labels over the loops that were put around loops.
func (s *scanner) settleBranch(m *mark) {
	switch m.kind {
	case markLabel, markSpend:
		m.arg += uint32(s.points[m.from].credits - s.points[m.to].credits)
	case markTable:
		n := len(m.labels) / 2
		for i, to := range m.labels[n:] {
			m.labels[i] += uint32(s.points[m.from].credits - s.points[to].credits)
		}
		m.labels = m.labels[:n]
	}
}
