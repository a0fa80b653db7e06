# FerryModel: what rows must hold, told from the writes that were acknowledged, and
# nothing else: no order of arrival, no crash and no pause may change it.
#
# A write is a hash: its dot (hlc, node), whether it left the row alive, status ('ok',
# or 'unknown' where the connection died in COMMIT: it may count or not), and what it
# set.  Writes of registers bring cols, a hash of column => value; those of columns
# that merge by a strategy:
#
#	n, m			what was added to these counters
#	hi, lo, f		what was written: the maximum, the minimum, the bits of all
#	added, removed	elements of the set; seen: what the writer had seen of the row
#	keys			of the map: the value, undef for a removed key
#	p				a register
package FerryModel;
use strict;
use warnings;
use Exporter 'import';
use JSON::PP;

our @EXPORT = qw(model_register model_strategies model_possible model_random_value model_difference model_held);

my $json = JSON::PP->new->allow_nonref;
my $unique = 0;

# later last
sub in_order { return sort { $a->{hlc} <=> $b->{hlc} || $a->{node} <=> $b->{node} } @_; }

# last writer wins, column by column; '' is a dead row
sub model_register
{
	my ($columns, @writes) = @_;
	my @w = reverse in_order(@writes);
	return '' if !@w || !$w[0]{alive};
	my @v;
	for my $col (@$columns)
	{
		my ($by) = grep { exists $_->{cols}{$col} } @w;
		push @v, $by->{cols}{$col} // 'NULL';
	}
	return join('|', @v);
}

# sums of floating point numbers, and numbers that JSON wrote shorter
sub money { my ($x) = @_; my $s = sprintf('%.2f', $x); return $s eq '-0.00' ? '0.00' : $s; }

# columns that merge; a dead row has values too
sub model_strategies
{
	my @w = in_order(@_);
	my ($n, $m, $hi, $lo, $f, $p, %map, %added) = (0, 0);
	my ($n_null, $m_null) = (1, 1);
	return '' if !@w;
	for my $w (@w)
	{
		if (defined $w->{n}) { $n += $w->{n}; $n_null = 0; }
		if (defined $w->{m}) { $m += $w->{m}; $m_null = 0; }
		$hi = $w->{hi} if defined $w->{hi} && (!defined $hi || $w->{hi} gt $hi);
		$lo = $w->{lo} if defined $w->{lo} && (!defined $lo || $w->{lo} < $lo);
		$f = ($f // 0) | $w->{f} if defined $w->{f};
		$p = $w->{p} if exists $w->{p};
		$map{$_} = $w->{keys}{$_} for keys %{ $w->{keys} // {} };
		push @{ $added{$_} }, $w for @{ $w->{added} // [] };
	}
	my @tags;
	for my $e (keys %added)
	{
		my @removals = grep { grep { $_ == $e } @{ $_->{removed} // [] } } @w;
		push @tags, $e if grep {
			my $add = $_;
			!grep { ($_->{seen}{ $add->{node} } // 0) >= $add->{hlc} } @removals
		} @{ $added{$e} };
	}
	return join('|', $w[-1]{alive} ? 'alive' : 'dead', $n_null ? '' : $n, $m_null ? '' : money($m),
		$hi // '', $lo // '', join(',', sort { $a <=> $b } @tags),
		join(',', map { "$_=$map{$_}" } grep { defined $map{$_} } sort keys %map), $f // '', $p // '');
}

# every subset of the writes of unknown fate may have happened; there are few.  Their
# outcomes as { outcome => 1 }
sub model_possible
{
	my ($outcome, @writes) = @_;
	my @maybe = grep { $_->{status} eq 'unknown' } @writes;
	my %result;

	die 'too many unknown writes for one key' if @maybe > 10;
	for my $mask (0 .. (1 << @maybe) - 1)
	{
		my %dropped;
		for my $m (0 .. $#maybe) { $dropped{ $maybe[$m] } = 1 unless $mask & (1 << $m); }
		$result{ $outcome->(grep { !$dropped{$_} } @writes) } = 1;
	}
	return \%result;
}

# the same as model_strategies of what a node holds: a state from ferry.state
sub model_held
{
	my ($state) = @_;
	return '' unless $state;
	my $r = $state->{row};
	return join('|', $state->{alive} ? 'alive' : 'dead', $r->{n} // '', defined $r->{m} ? money($r->{m}) : '', $r->{hi} // '', $r->{lo} // '',
		join(',', sort { $a <=> $b } @{ $r->{tags} // [] }),
		join(',', map { "$_=$r->{attrs}{$_}" } sort keys %{ $r->{attrs} // {} }), $r->{f} // '', $r->{p} // '');
}

# a value for a column that merges; for counters what is to be added
sub model_random_value
{
	my ($col, $old) = @_;
	my $v = ++$unique;
	return int(rand(9)) - 4 if $col eq 'n';
	return sprintf('%.2f', (int(rand(900)) - 450) / 100) if $col eq 'm';
	return sprintf('%s%04d', (qw(a B z))[ int(rand(3)) ], int(rand(10000))) if $col eq 'hi';
	return 5000 - int(rand(5000)) if $col eq 'lo';
	return 1 << int(rand(20)) if $col eq 'f';
	return "p$v" if $col eq 'p';
	if ($col eq 'tags')
	{
		my %t = map { $_ => 1 } @{ $old->{tags} // [] };
		for my $e (map { int(rand(8)) } 1 .. 3) { $t{$e} ? delete $t{$e} : ($t{$e} = 1); }
		return '{' . join(',', sort { rand() <=> 0.5 } keys %t) . '}';
	}
	my %m = %{ $old->{attrs} // {} };
	for my $k (map { 'k' . int(rand(5)) } 1 .. 2) { rand() < 0.4 ? delete $m{$k} : ($m{$k} = $v); }
	return $json->encode(\%m);
}

# what changed between two rows, into a write; of a birth all that it has was written
sub model_difference
{
	my ($w, $old, $new, $birth, $cols) = @_;
	for my $col (@$cols)
	{
		if ($col eq 'n' || $col eq 'm') { $w->{$col} = $new->{$col} - ($old->{$col} // 0); }
		elsif ($col eq 'tags')
		{
			my %o = map { $_ => 1 } @{ $old->{tags} // [] };
			my %n = map { $_ => 1 } @{ $new->{tags} // [] };
			$w->{added} = [ grep { $birth || !$o{$_} } keys %n ];
			$w->{removed} = [ grep { !$n{$_} } keys %o ];
		}
		elsif ($col eq 'attrs')
		{
			my ($o, $n) = ($old->{attrs} // {}, $new->{attrs} // {});
			$w->{keys}{$_} = $n->{$_} for grep { $birth || !defined $o->{$_} || $o->{$_} ne $n->{$_} } keys %$n;
			$w->{keys}{$_} = undef for grep { !defined $n->{$_} } keys %$o;
		}
	}
	return;
}

1;
